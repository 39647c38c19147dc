"""The session's side of the sandbox: starts the forkserver and asks it for containers.

Everything is asynchronous and needs a running event loop, except how it starts, which must happen before any thread exists. What
containers need is loaded when there is a first one, and the forkserver loads its own part: a session starts faster for it.
Nothing needs to be cleaned up after a crash: the forkserver, every container and all their mounts end with this process.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pocket.sandbox.errors import SandboxError

if TYPE_CHECKING:
    from pocket.sandbox.process import Process
    from pocket.sandbox.spec import ExecSpec
    from pocket.sandbox.tier import Tier


class Zygote:
    """The forkserver, seen from the session."""

    def __init__(self, pid: int, sock: socket.socket, tier: Tier) -> None:
        self.pid = pid
        self.tier = tier
        self._sock = sock

    @classmethod
    def start(cls, tier: Tier) -> Self:
        """Fork the forkserver and wait until it is ready; as `begin` and `ready`."""
        return cls.begin(tier).ready()

    @classmethod
    def begin(cls, tier: Tier) -> Self:
        """Fork the forkserver; call it after `enter_tier` and before any thread or event loop."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                from pocket.sandbox import forkserver  # on its own time, while the session loads what it needs

                forkserver.main(theirs, tier)
            finally:
                os._exit(1)
        theirs.close()
        return cls(pid, ours, tier)

    def ready(self) -> Self:
        """Wait until it can make containers. Raises SandboxError when the machine refuses mounts in a namespace of our own."""
        answer = self._sock.recv(65536)
        message, hint = marshal.loads(answer) if answer else ("the forkserver ended at once", "")  # noqa: S302 - our own child
        if message:
            os.waitpid(self.pid, 0)
            raise SandboxError(message, hint=hint)
        return self

    async def spawn(self, spec: ExecSpec, *, stdout: int, stderr: int) -> Process:
        """Start a container; the command writes to the given descriptors, which remain the caller's to close.

        Raises SandboxError when no process can be made. What else goes wrong is told by `Process.wait`.
        """
        from pocket.sandbox.spec import to_wire

        net = spec.netns if isinstance(spec.netns, str) else "handle"
        extra = () if isinstance(spec.netns, str) else (spec.netns.fileno(),)
        kind = "exec-as-init" if spec.no_init else "exec-insecure" if spec.insecure else "exec"
        with _Descriptors() as opened:
            opened.add(_memory("spec", marshal.dumps(to_wire(spec))))
            opened.add(_stdin(spec))
            return await self._request((kind, net), (*opened.fds, stdout, stderr), extra)

    async def helper(self, argv: tuple[str, ...], netns: int) -> Process:
        """Start a program of the host, without output, that finds the network namespace at descriptor 3 and dies with the session."""
        with _Descriptors() as opened:
            opened.add(_memory("argv", marshal.dumps(argv)))
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY):
                opened.add(os.open("/dev/null", flags))
            return await self._request(("helper", ""), tuple(opened.fds), (netns,))

    async def _request(self, message: tuple[str, str], fds: tuple[int, ...], extra: tuple[int, ...]) -> Process:
        from pocket.sandbox.messages import ask
        from pocket.sandbox.process import Process

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ask(self._sock, message, [*fds, theirs.fileno(), *extra])
        except OSError as error:
            ours.close()
            raise SandboxError(f"the forkserver is gone ({error.strerror})", hint="start the session again") from error
        finally:
            theirs.close()
        process = Process(ours)
        await process.started()
        return process

    def close(self) -> None:
        """End the forkserver and with it every container."""
        self._sock.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class _Descriptors:
    """Descriptors that are open for the time of one request."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self.fds:
            os.close(fd)

    def add(self, fd: int) -> None:
        self.fds.append(fd)


def _memory(name: str, data: bytes) -> int:
    """Return a descriptor of a file in memory: any size, nobody has to feed it, and nothing to delete."""
    fd = os.memfd_create(name)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _stdin(spec: ExecSpec) -> int:
    if isinstance(spec.stdin, bytes):
        return _memory("stdin", spec.stdin)
    if isinstance(spec.stdin, int):
        return os.dup(spec.stdin)
    return os.open(spec.stdin if isinstance(spec.stdin, Path) else "/dev/null", os.O_RDONLY)
