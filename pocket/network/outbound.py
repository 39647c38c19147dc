"""The way from attached containers to the outside: slirp4netns, or pasta, when the machine has one; else there is none.

Both are ordinary programs that carry packets through sockets of the host without any privilege there; one runs for each attached
container, with an interface of its own in the container's namespace that takes the default route. Neither lets a container reach
the host's loopback. They are started by the forkserver, in a pid namespace, so that they cannot outlive the session.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pocket.sandbox import Process, Zygote

_TUN = "/dev/net/tun"
_INTERFACE = "out0"
_DNS = "10.0.2.3"  # answered by the program, from the host's own resolver
_READY_SECONDS = 5.0
_PASTA_SINCE = "2024"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way out. `program` is a path, "" when there is none, and then `reason` says why."""

    name: str = "none"
    program: str = ""
    reason: str = ""

    def describe(self) -> str:
        """Return the name for humans."""
        return f"{self.name} ({self.reason})" if self.reason else self.name

    def resolv(self) -> bytes:
        """Return resolv.conf: without a way out it names no server, so that look-ups fail at once instead of after 10 s."""
        try:
            with open("/etc/resolv.conf", "rb") as file:
                kept = [line for line in file if line.startswith((b"search ", b"domain ", b"options "))]
        except OSError:
            kept = []
        return b"".join(kept) + (f"nameserver {_DNS}\n".encode() if self.program else b"")

    async def connect(self, zygote: Zygote, netns: int, interfaces: Callable[[], Awaitable[list[str]]]) -> Process | None:
        """Start the program for a namespace and wait until its interface is there; None when there is no way out."""
        if not self.program:
            return None
        process = await zygote.helper(self._argv(), netns)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while not process.ended and _INTERFACE not in await interfaces():  # noqa: ASYNC110 - the kernel sends no event
                    await asyncio.sleep(0.005)
        except TimeoutError:
            process.kill()
        return process  # without an interface the step may still succeed; what needs it will say "network is unreachable"

    def _argv(self) -> tuple[str, ...]:
        path = "/proc/self/fd/3"  # where the forkserver puts the namespace
        if self.name == "slirp4netns":
            options = ("--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path")
            return (self.program, *options, path, _INTERFACE)
        ports = ("-t", "none", "-u", "none", "-T", "none", "-U", "none")
        address = ("-a", "10.0.2.100", "-n", "24", "-g", "10.0.2.2", "--dns-forward", _DNS, "--no-map-gw", "-I", _INTERFACE)
        return (self.program, "--foreground", "--quiet", "--config-net", "--ipv4-only", *address, *ports, "--netns-only", "--netns", path)


def find(tier: str) -> Way:
    """Choose the program: the first of slirp4netns and pasta that is installed and can work here."""
    reasons = []
    for name in ("slirp4netns", "pasta"):
        program = shutil.which(name)
        if reason := _why_not(name, program, tier):
            reasons.append(reason)
        elif program:
            return Way(name=name, program=program)
    return Way(reason="; ".join(reasons))


def _why_not(name: str, program: str | None, tier: str) -> str:
    if program is None:
        return f"{name} is not installed"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"{name} is installed, but {_TUN} cannot be opened"
    if name == "pasta" and tier == "root":
        return "pasta, started by root, becomes `nobody`, who may not open our namespaces"
    if name == "pasta" and (version := _pasta_version(program)) < _PASTA_SINCE:
        return (
            f"this pasta ({version or 'of unknown version'}) repeats data on new kernels; {_PASTA_SINCE} is the first that is known not to"
        )
    return ""


def _pasta_version(program: str) -> str:
    """Return the year in pasta's version ("0.0~git20230309…", "2024_03_26.…"), or ""."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10)
    found = re.search(r"20\d\d", done.stdout)
    return found.group() if found else ""
