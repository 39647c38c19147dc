"""Watching one command from its parent: reaping, signals from the session, the time limit, and the end of what is left."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from pocket.sandbox.record import Recorder


def wake_on_child() -> int:
    """Return a descriptor that becomes readable when a child has ended."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return read


def supervise(
    control: socket.socket, child: int, wake: int, *, timeout: float | None, grace: float, recorder: Recorder | None = None
) -> tuple[int, bool]:
    """Reap until the command has ended, pass signals on, keep the time, have owners recorded; then end what is left.

    Returns the command's wait status (-1 when the session went away first) and whether its time was up.
    """
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(control.fileno(), select.POLLIN)
    if recorder is not None:
        poll.register(recorder.fd, select.POLLIN)
    stop = _Stop(child, timeout, grace)
    while (status := _reap(child)) is None:
        events = dict(poll.poll(stop.milliseconds()))
        if wake in events:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        if recorder is not None and (ready := events.get(recorder.fd)):
            if ready & select.POLLIN:
                recorder.answer()
            else:
                poll.unregister(recorder.fd)  # nobody with the filter is left
        if control.fileno() in events:
            message = control.recv(64)
            if not message:
                break  # the session is gone, and so are we
            if message == b"t":
                stop.begin()
            else:
                _kill(child, int(message[1:]))
        stop.check()
    if os.getpid() == 1:
        _end_all()
    return (-1 if status is None else status), stop.timed_out


class _Stop:
    """When to send SIGTERM and, `grace` seconds later, SIGKILL to the command's process group."""

    def __init__(self, child: int, timeout: float | None, grace: float) -> None:
        self._group, self._grace = -child, grace
        self._at = None if timeout is None else time.monotonic() + timeout
        self._asked = False
        self.timed_out = False

    def milliseconds(self) -> float | None:
        """Return how long may be waited until `check` has something to do."""
        return None if self._at is None else max(0.0, self._at - time.monotonic()) * 1000 + 1

    def check(self) -> None:
        if self._at is None or time.monotonic() < self._at:
            return
        if self._asked:
            _kill(self._group, signal.SIGKILL)
            self._at = None
        else:
            self.timed_out = True
            self.begin()

    def begin(self) -> None:
        if not self._asked:
            self._asked = True
            _kill(self._group, signal.SIGTERM)
            self._at = time.monotonic() + self._grace


def _reap(child: int) -> int | None:
    """Collect every child that has ended; return the wait status of `child` if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if pid == child:
            return status
        if pid == 0:
            return None


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _end_all() -> None:
    """Kill what the command left behind, so that nothing writes into the layer while it is committed."""
    _kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
