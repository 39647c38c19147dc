"""What this machine allows, found out by trying: each probe runs in a child process and says what to do when it fails.

For `pocket doctor`. The probes enter the tier that a session would use, so the answers are a session's; nothing is left behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pocket import gpu
from pocket.errors import PocketError
from pocket.network import RunNetwork
from pocket.sandbox.errors import SandboxError
from pocket.sandbox.limits import Limits
from pocket.sandbox.spec import ExecSpec, Mount
from pocket.sandbox.tier import enter_tier
from pocket.sandbox.zygote import Zygote

Status = Literal["ok", "warn", "fail", "info"]
_MINIMUM_KERNEL = (5, 11)
_ENOUGH_GIB = 2.0
_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One answer: what was tried, how it went, and what to change."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def run_all(cache: Path) -> list[Probe]:
    """Try everything a session needs, with `cache` as the directory of layers; takes about a second."""
    found = [_kernel(), _in_child("tier", _tier)]
    if any(p.status == "fail" for p in found):
        return found  # everything else would fail for the same reason
    rest: list[tuple[str, Callable[[], Probe]]] = [("cache", lambda: _cache(cache)), ("command", lambda: _command(cache))]
    found += [_in_child(name, work) for name, work in [*rest, ("services", _services)]]
    return [*found, _limits(), _gpu()]


def _kernel() -> Probe:
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if sys.platform != "linux" or numbers < _MINIMUM_KERNEL:
        return Probe(name="kernel", status="fail", detail=f"{sys.platform} {release}", fix="pocket needs Linux 5.11; use --engine dagger")
    return Probe(name="kernel", status="ok", detail=release)


def _limits() -> Probe:
    limits = Limits.read()
    fix = limits.advice()
    return Probe(name="limits", status="warn" if fix else "ok", detail=limits.describe(), fix=fix)


def _gpu() -> Probe:
    if not gpu.present():
        return Probe(name="gpu", status="info", detail="no NVIDIA GPU: steps that ask for one fail")
    models = ", ".join(model for _, model, _ in gpu.inventory())
    return Probe(name="gpu", status="ok", detail=models or "an NVIDIA GPU, of which the driver tells nothing")


def _in_child(name: str, work: Callable[[], Probe]) -> Probe:
    """Run one probe in a process of its own, which may enter namespaces, hang or crash."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        signal.alarm(_SECONDS)
        os.write(write, json.dumps(asdict(_caught(name, work))).encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    if not text:
        return Probe(name=name, status="fail", detail=f"the probe ended with status {status}", fix="report this as a bug, with: uname -a")
    return Probe(**json.loads(text))


def _caught(name: str, work: Callable[[], Probe]) -> Probe:
    try:
        return work()
    except PocketError as error:
        return Probe(name=name, status="fail", detail=error.message, fix=error.hint)
    except Exception as error:  # noqa: BLE001 - the point is to say what went wrong, whatever it is
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Probe(name=name, status="fail", detail=f"{error} ({Path(where.filename).name}:{where.lineno})", fix="report this as a bug")


def _tier() -> Probe:
    tier = enter_tier()
    Zygote.start(tier).close()
    detail = {
        "root": "root: owners are real, no user namespace",
        "subuid": f"subuid: a user namespace with {tier.ids} ids, owners are real",
        "single-uid": "single-uid: a user namespace with one id; owners are recorded, not enforced",
    }[tier.name]
    note = f" ({tier.note})" if tier.note else ""
    fix = f"for real owners: {tier.remedy}" if tier.remedy else ""
    return Probe(name="tier", status="ok" if tier.name != "single-uid" else "info", detail=detail + note, fix=fix)


class _Scratch:
    """Directories for one throw-away container below the cache."""

    def __init__(self, cache: Path) -> None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix="probe-", dir=cache))
        except OSError as error:
            hint = "set POCKET_CACHE (or WEIGHBRIDGE_CACHE) to a directory that can be written"
            raise SandboxError(f"the cache directory {cache} cannot be used: {error.strerror}", hint=hint) from error
        for name in ("lower", "upper", "work"):
            (self.path / name).mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        inner = self.path / "work/work"
        if inner.exists():
            inner.chmod(0o700)  # overlayfs makes it with no permission at all
        shutil.rmtree(self.path)

    def spec(self, *argv: str, **fields: Any) -> ExecSpec:
        upper, work = str(self.path / "upper"), str(self.path / "work")
        return ExecSpec(lowers=(str(self.path / "lower"),), upper=upper, work=work, argv=argv, **fields)


async def _run(zygote: Zygote, spec: ExecSpec) -> tuple[int, str, tuple[str, ...]]:
    """Run one command; returns its exit code, its output (both streams together) and the engine's notes."""
    read, write = os.pipe()
    try:
        process = await zygote.spawn(spec, stdout=write, stderr=write)
    finally:
        os.close(write)
    outcome = await process.wait()
    with open(read, errors="replace", encoding="utf-8") as file:
        return outcome.exit_code, outcome.error or file.read(), outcome.notes


def _cache(cache: Path) -> Probe:
    zygote = Zygote.start(enter_tier())
    with _Scratch(cache) as scratch:
        asyncio.run(_run(zygote, scratch.spec("/none")))  # whether it exists is not the point: its root was mounted
        free = shutil.disk_usage(cache).free / 2**30
    zygote.close()
    if free < _ENOUGH_GIB:
        fix = "free some space, or set POCKET_CACHE (or WEIGHBRIDGE_CACHE) to a directory on a larger disk"
        return Probe(name="cache", status="warn", detail=f"{cache}: overlayfs works, but only {free:.1f} GiB are free", fix=fix)
    return Probe(name="cache", status="ok", detail=f"{cache}: overlayfs works, {free:.0f} GiB free")


def _command(cache: Path) -> Probe:
    """Run this machine's own shell in a container: execve, /proc, /dev."""
    zygote = Zygote.start(enter_tier())
    places = [f"/{name}" for name in ("bin", "lib", "lib64", "usr") if Path("/", name).is_dir()]
    with _Scratch(cache) as scratch:
        mounts = tuple(Mount(target=p, kind="bind", source=p, readonly=True) for p in places)
        spec = scratch.spec("/bin/sh", "-c", "read x < /proc/self/stat && echo y > /dev/null && echo fine", mounts=mounts)
        started = time.monotonic()
        code, output, notes = asyncio.run(_run(zygote, spec))
        took = (time.monotonic() - started) * 1000
    zygote.close()
    if (code, output) != (0, "fine\n"):
        return Probe(
            name="command", status="fail", detail=f"exit code {code}: {output.strip()}", fix="report this as a bug, with: uname -a"
        )
    if notes:
        return Probe(name="command", status="warn", detail=f"a command runs, but {'; '.join(notes)}", fix="do not mask /proc around pocket")
    return Probe(name="command", status="ok", detail=f"a command ran in a container, {took:.0f} ms")


def _services() -> Probe:
    zygote = Zygote.start(enter_tier())

    async def attach() -> str:
        network = await RunNetwork.start(zygote)
        await (await network.attach("probe")).close()
        await network.close()
        return network.outbound

    outbound = asyncio.run(attach())
    zygote.close()
    if outbound.startswith("none"):
        detail = f"services have addresses, but steps that use services reach nothing outside: {outbound}"
        fix = "install slirp4netns or passt"
        if "/dev/net/tun" in outbound:
            fix = "let this user open /dev/net/tun (as root: modprobe tun; in a container: --device /dev/net/tun)"
        return Probe(name="services", status="info", detail=detail, fix=f"{fix} if such steps need the internet")
    return Probe(name="services", status="ok", detail=f"services have addresses; {outbound} leads outside")
