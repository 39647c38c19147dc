"""A program of the host that serves a network namespace, in a pid namespace of its own so that it cannot outlive the session."""

from __future__ import annotations

import os
from typing import Never

from pocket.sandbox import command, linux
from pocket.sandbox.init import Host, die_with_parent, guarded, report
from pocket.sandbox.messages import Request, read
from pocket.sandbox.supervise import wake_on_child

_GRACE_SECONDS = 2.0


def run(host: Host, request: Request) -> Never:
    """Be pid 1 for the program, which finds the network namespace at descriptor 3."""

    def body() -> Never:
        die_with_parent(host.alive)
        argv: tuple[str, ...] = read(request.spec)
        wake = wake_on_child()
        pid = os.fork()
        if pid == 0:
            _become(argv, (*request.streams, request.net or 0))
        report(request.control, pid, wake, timeout=None, grace=_GRACE_SECONDS)

    guarded(request.control, body)


def _become(argv: tuple[str, ...], fds: tuple[int, ...]) -> Never:
    try:
        command.default_signals()
        os.setsid()
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
        linux.close_on_exec_from(4)
        os.execv(argv[0], argv)  # noqa: S606 - a program that the caller looked up
    finally:
        os._exit(127)
