"""The messages between session, forkserver and container: marshalled tuples and descriptors over seqpacket sockets.

A request to the forkserver is (kind, network): kind "exec", "exec-insecure" (with every capability), "exec-as-init" (the command is
pid 1) or "helper" (a program of the host that serves a network namespace; its argv stands in place of the spec); network "host",
"none" or "handle".
"""

from __future__ import annotations

import contextlib
import marshal
import os
import socket
from dataclasses import dataclass
from typing import Any

from pocket.sandbox.spec import ExecSpec, from_wire

_MOST_FDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The descriptors of one request; `net` only where there is a namespace to enter."""

    spec: int
    streams: tuple[int, int, int]
    control: socket.socket
    net: int | None

    def fds(self) -> list[int]:
        """Return them in the order in which they travel."""
        return [self.spec, *self.streams, self.control.fileno(), *(() if self.net is None else (self.net,))]

    def close(self) -> None:
        """Close this process's copies."""
        for fd in self.fds():
            if fd != self.control.fileno():
                os.close(fd)
        self.control.close()


def ask(sock: socket.socket, message: tuple[str, str], fds: list[int]) -> None:
    """Send a request; OSError when the other side is gone."""
    socket.send_fds(sock, [marshal.dumps(message)], fds)


def receive(sock: socket.socket) -> tuple[tuple[str, str], Request] | None:
    """Wait for a request; None when the other side is gone."""
    data, fds, _, _ = socket.recv_fds(sock, 4096, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fds[4])
    request = Request(spec=fds[0], streams=(fds[1], fds[2], fds[3]), control=control, net=fds[5] if len(fds) > 5 else None)
    return marshal.loads(data), request  # noqa: S302 - both sides are ours


def send(control: socket.socket, message: tuple[Any, ...], fds: list[int] | None = None) -> None:
    """Tell the session something; nothing happens when it has gone, because this process is then about to end with it."""
    with contextlib.suppress(OSError):
        socket.send_fds(control, [marshal.dumps(message)], fds or [])


def read_spec(fd: int) -> ExecSpec:
    """Read a spec from its file in memory, at an offset of our own: several processes share the open file."""
    return from_wire(read(fd))


def read(fd: int) -> Any:
    """Read marshalled data from a file in memory."""
    return marshal.loads(os.pread(fd, os.fstat(fd).st_size, 0))  # noqa: S302 - both sides are ours
