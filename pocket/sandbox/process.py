"""One container as the session sees it, followed over a socket of its own. Needs a running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import marshal
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

from pocket.sandbox import oom
from pocket.sandbox.errors import SandboxError
from pocket.sandbox.messages import read
from pocket.sandbox.spec import Outcome

if TYPE_CHECKING:
    from pocket.sandbox.record import Note


class Process:
    """One container. `pid` is its first process (or the one that watches it) as the host sees it."""

    def __init__(self, control: socket.socket) -> None:
        self.pid = 0
        self._pidfd = -1
        self._control = control
        self._killed = False
        self._files: dict[int, int] = {}
        self._setup: tuple[Any, ...] = ((), (), (), None, ())
        self._owners: tuple[Note, ...] = ()
        self._oom_before = oom.kills()
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._standing: asyncio.Future[None] = loop.create_future()
        self._result: asyncio.Future[Outcome] = loop.create_future()
        control.setblocking(False)
        loop.add_reader(control.fileno(), self._readable)
        self._loop = loop

    async def started(self) -> None:
        """Wait until the container's first process exists."""
        await asyncio.shield(self._started)

    @property
    def ended(self) -> bool:
        """Tell whether `wait` would return at once."""
        return self._result.done()

    async def wait(self) -> Outcome:
        """Wait for the end of the command; by then nothing of it runs or can write any more. May be called again.

        Raises SandboxError when the machine refuses what the container needs.
        """
        return await asyncio.shield(self._result)

    def signal(self, number: int) -> None:
        """Send a signal to the command."""
        self._tell(b"s%d" % number)

    def terminate(self) -> None:
        """Ask the command's process group to end (SIGTERM); after the spec's grace it is killed."""
        self._tell(b"t")

    def kill(self) -> None:
        """Kill everything in the container at once."""
        self._killed = True
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def terminal(self) -> int | None:
        """Wait until the container stands and give our side of its terminal, to be closed by the caller; None without one."""
        await asyncio.shield(self._standing)
        return self._files.pop(0, None)

    def fill_redirects(self, *, stdout: bytes, stderr: bytes) -> None:
        """Write the redirected streams into their files in the container; call it after `wait` and before committing.

        The files are opened by the container and filled here because only the caller has scrubbed the output of secrets.
        """
        for stream, data in ((1, stdout), (2, stderr)):
            if (fd := self._files.pop(stream, None)) is not None:
                with open(fd, "wb") as file:
                    file.write(data)

    def _tell(self, message: bytes) -> None:
        if self._control.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._control.send(message)

    def _readable(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, 1 << 20, 4, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._ended(None)
            return
        kind, *rest = marshal.loads(data)  # noqa: S302 - from our own forkserver
        match kind:
            case "started":
                self.pid, self._pidfd = rest[0], fds[0]
                if self._killed:
                    self.kill()
                self._set_started()
            case "setup":
                self._setup = tuple(rest[:5])
                self._files = dict(zip(rest[5], fds, strict=True))
                self._standing.set_result(None)
            case "owners":
                with open(fds[0], closefd=True) as file:
                    self._owners = tuple(read(file.fileno()))
            case "exit":
                self._ended(self._outcome(rest[0], timed_out=rest[1]))
            case "step":
                self._ended(Outcome(exit_code=-1, error=rest[0]))
            case _:
                self._ended(SandboxError(rest[0], hint=rest[1]))

    def _set_started(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    def _outcome(self, status: int, *, timed_out: bool) -> Outcome:
        code = os.waitstatus_to_exitcode(status) if status >= 0 else -signal.SIGKILL
        oom_killed = code == -signal.SIGKILL and not self._killed and not timed_out and oom.kills() > self._oom_before
        stubs, mount_stubs, made_cwd, owner, notes = self._setup
        return Outcome(
            exit_code=128 - code if code < 0 else code, oom=oom_killed, timed_out=timed_out, stubs=stubs, mount_stubs=mount_stubs,
            made_cwd=made_cwd, owner=owner, owners=self._owners, notes=notes,
        )  # fmt: skip

    def _ended(self, result: Outcome | SandboxError | None) -> None:
        """Take the first result there is; a container that ends without one was killed from outside."""
        self._set_started()
        if not self._standing.done():
            self._standing.set_result(None)
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if isinstance(result, SandboxError):
            self._result.set_exception(result)
            self._result.exception()  # retrieved: nobody has to wait for a process that was never asked about
        else:
            self._result.set_result(result or self._outcome(signal.SIGKILL, timed_out=False))

    def __del__(self) -> None:
        for fd in self._files.values():
            os.close(fd)
