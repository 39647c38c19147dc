"""The run's network: bridge 10.87.0.1/16, one namespace and address per attached container.

One thread of the session lives in the bridge's namespace (unshare and setns are per thread), so there is no helper process to look
after: namespaces, interfaces and thread end with the session however it ends. A socket belongs to the namespace in which it was
made, whoever uses it afterwards; the thread only makes them, the event loop connects and accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from pocket.errors import PocketError
from pocket.network import netlink, outbound
from pocket.sandbox import SandboxError, linux

if TYPE_CHECKING:
    from collections.abc import Callable

    from pocket.sandbox import Process, Zygote

T = TypeVar("T")
BRIDGE, GATEWAY, PREFIX = "br0", "10.87.0.1", 16
_FIRST, _LAST = 2, 65534
_NAMESPACE = "/proc/thread-self/ns/net"
# Ports below 1024 and ping are for every user of a container, as in Docker's.
_SYSCTLS = {"net/ipv4/ip_unprivileged_port_start": "0", "net/ipv4/ping_group_range": "0 2147483647"}


class NetworkError(PocketError):
    """The machine refuses a part of the run's network."""


class Attachment:
    """A container's place in the run's network: give it to `ExecSpec.netns`, close it when the container has ended."""

    def __init__(self, network: RunNetwork, name: str, number: int, fd: int) -> None:
        self.name = name
        self.ip = _address(number)
        self.number = number
        self.helper: Process | None = None
        self._network = network
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor of the namespace."""
        return self._fd

    async def close(self) -> None:
        """Give the address back; the namespace ends when its last process has. May be called again."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        os.close(fd)
        if self.helper is not None:
            self.helper.kill()
            with contextlib.suppress(SandboxError):  # it never started; then there is nothing to end
                await self.helper.wait()
        await self._network.detach(self)


class RunNetwork:
    """One session's network; `gateway` is the address of the bridge."""

    gateway = GATEWAY

    def __init__(self, zygote: Zygote, *, offline: bool = False) -> None:
        self._zygote = zygote
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pocket-network")
        self._next = _FIRST
        self._used: set[int] = set()
        self._home = -1
        self._way = outbound.Way(reason="POCKET_OFFLINE") if offline else outbound.find(zygote.tier.name)

    @property
    def outbound(self) -> str:
        """Tell how containers reach the outside: "pasta", "slirp4netns", or "none (why)"."""
        return self._way.describe()

    @property
    def resolv(self) -> bytes:
        """Give the content of /etc/resolv.conf for attached containers."""
        return self._way.resolv()

    @classmethod
    async def start(cls, zygote: Zygote, *, offline: bool = False) -> RunNetwork:
        """Make the bridge, without a way out when `offline`; raises NetworkError when the machine refuses."""
        network = cls(zygote, offline=offline)
        try:
            network._home = await network._in_thread(_make_bridge)
        except OSError as error:
            network._thread.shutdown(wait=False)
            raise _refused(error) from error
        return network

    async def attach(self, name: str) -> Attachment:
        """Make a namespace with an address on the bridge, and a way out if the machine has one."""
        number = self._take_number()
        try:
            fd = await self._in_thread(lambda: _make_namespace(self._home, number))
        except OSError as error:
            self._used.discard(number)
            raise _refused(error) from error
        attachment = Attachment(self, name, number, fd)
        try:
            attachment.helper = await self._way.connect(self._zygote, fd, lambda: self._in_thread(lambda: self._interfaces(fd)))
        except BaseException:
            await attachment.close()
            raise
        return attachment

    async def detach(self, attachment: Attachment) -> None:
        """Take a container's interface off the bridge; `Attachment.close` calls this."""
        with contextlib.suppress(OSError, RuntimeError):  # gone already, with its namespace or with the whole network
            await self._in_thread(lambda: netlink.delete(_port(attachment.number)))
        self._used.discard(attachment.number)

    async def connect(self, ip: str, port: int) -> socket.socket:
        """Return a connected, non-blocking TCP socket to an address of the network; OSError when nobody answers."""
        sock = await self._in_thread(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (ip, port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def listen(self, attachment: Attachment, port: int) -> socket.socket:
        """Return a listening TCP socket (non-blocking) on an attachment's address; OSError when the port is taken."""

        def make() -> socket.socket:
            with _Visit(attachment.fileno(), self._home):
                return socket.create_server((attachment.ip, port), backlog=128)

        sock = await self._in_thread(make)
        sock.setblocking(False)
        return sock

    async def close(self) -> None:
        """End the network; what is still attached loses it."""
        if self._home >= 0:
            os.close(self._home)
            self._home = -1
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _interfaces(self, fd: int) -> list[str]:
        with _Visit(fd, self._home):
            return [name for _, name in socket.if_nameindex()]

    def _take_number(self) -> int:
        for _ in range(_FIRST, _LAST + 1):
            number = self._next
            self._next = _FIRST if number == _LAST else number + 1
            if number not in self._used:
                self._used.add(number)
                return number
        raise NetworkError("the run's network has no free address", hint="close services that are no longer used")


class _Visit:
    """Be in another network namespace for a while; only for the network's own thread."""

    def __init__(self, there: int, home: int) -> None:
        self._there, self._home = there, home

    def __enter__(self) -> None:
        linux.setns(self._there, linux.CLONE_NEWNET)

    def __exit__(self, *_: object) -> None:
        linux.setns(self._home, linux.CLONE_NEWNET)


def _make_bridge() -> int:
    """Move this thread into a fresh namespace with the bridge in it; return its descriptor."""
    linux.unshare(linux.CLONE_NEWNET)
    netlink.set_up("lo")
    netlink.add_bridge(BRIDGE)
    netlink.add_address(BRIDGE, GATEWAY, PREFIX)
    netlink.set_up(BRIDGE)
    _sysctls()
    return os.open(_NAMESPACE, os.O_RDONLY)


def _make_namespace(home: int, number: int) -> int:
    """Make a namespace with `eth0` on the bridge; the thread is back home afterwards. Returns its descriptor."""
    linux.unshare(linux.CLONE_NEWNET)
    fd = os.open(_NAMESPACE, os.O_RDONLY)
    try:
        netlink.set_up("lo")
        _sysctls()
        linux.setns(home, linux.CLONE_NEWNET)
        netlink.add_veth(_port(number), "eth0", fd)
        netlink.set_up(_port(number), master=BRIDGE)
        with _Visit(fd, home):
            netlink.add_address("eth0", _address(number), PREFIX)
            netlink.set_up("eth0")
            # No default route: what leads out adds its own, and without one a connection fails at once instead of hanging.
    except BaseException:
        os.close(fd)
        raise
    finally:
        linux.setns(home, linux.CLONE_NEWNET)
    return fd


def _sysctls() -> None:
    for name, value in _SYSCTLS.items():
        # An outer container may show /proc/sys read-only; root in ours can do without.
        with contextlib.suppress(OSError), open(f"/proc/sys/{name}", "wb", buffering=0) as file:
            file.write(value.encode())


def _port(number: int) -> str:
    return f"veth{number}"


def _address(number: int) -> str:
    return socket.inet_ntoa(struct.pack("!I", struct.unpack("!I", socket.inet_aton(GATEWAY))[0] - 1 + number))


def _refused(error: OSError) -> NetworkError:
    message = f"no network for services: {error.filename or 'namespace'}: {error.strerror}"
    if error.errno == errno.EOPNOTSUPP:
        return NetworkError(message, hint="this kernel lacks bridge or veth: modprobe bridge veth (as root)")
    if error.errno == errno.ENOSPC:
        return NetworkError(message, hint="sysctl -w user.max_net_namespaces=15000 (as root)")
    return NetworkError(message, hint="services need network namespaces, which this machine refuses; run: pocket doctor")
