"""The zygote: a small process with one thread that forks every container, so that no interpreter is started for a command.

It is forked from the session before that has threads, holds no state of any container, waits for nothing but requests, and dies
with the session; its containers die with it. Children are reaped by the kernel (SIGCHLD ignored).
"""

from __future__ import annotations

import gc
import marshal
import os
import resource
import select
import signal
import socket
from typing import TYPE_CHECKING, Never

from pocket.errors import PocketError
from pocket.sandbox import helper, linux, workspace
from pocket.sandbox.errors import SandboxError
from pocket.sandbox.init import Host, be_spare, namespaces, run, watch_from_outside
from pocket.sandbox.messages import Request, ask, receive, send
from pocket.sandbox.tier import userns_refused

if TYPE_CHECKING:
    from pocket.sandbox.tier import Tier

_SETTLE = 250  # milliseconds before the first spare is made: session and SDK are busy getting to know each other
_BREATH = 5  # milliseconds before the next spare is made: a container that starts has the processor first


def main(sock: socket.socket, tier: Tier) -> Never:
    """Serve requests from the session until it is gone."""
    try:
        alive_r, alive_w, nofile = _prepare(sock)
    except PocketError as error:
        sock.send(marshal.dumps((error.message, error.hint)))
        os._exit(1)
    except OSError as error:
        refused = _mounts_refused(error)
        sock.send(marshal.dumps((refused.message, refused.hint)))
        os._exit(1)
    sock.send(marshal.dumps(("", "")))
    server = _Server(sock, Host(tier=tier, alive=alive_r, nofile=nofile), alive_w)
    breath = _SETTLE
    while True:
        if not server.pending(breath):
            server.keep_a_spare()
        breath = _BREATH
        if (asked := receive(sock)) is None:
            os._exit(0)
        (kind, net), request = asked
        server.start(kind, net, request)
        request.close()


class _Server:
    """Makes containers; between requests it makes the next one ahead, which takes a third of the time off a short command."""

    def __init__(self, sock: socket.socket, host: Host, alive: int) -> None:
        self._sock, self._host, self._alive = sock, host, alive
        self._spare: tuple[int, int, socket.socket] | None = None
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def pending(self, milliseconds: int) -> bool:
        """Tell whether somebody asks within a time."""
        return self._spare is None and bool(self._poll.poll(milliseconds))

    def keep_a_spare(self) -> None:
        """Have a container ready whose request is still to come."""
        if self._spare is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid, pidfd = linux.clone(namespaces("host"))
        except OSError:  # the next request will meet the same, and can tell somebody
            ours.close()
        else:
            if pid == 0:
                self._is_child(ours)
                be_spare(self._host, theirs)
            self._spare = pid, pidfd, ours
        theirs.close()

    def start(self, kind: str, net: str, request: Request) -> None:
        """Start a container for a request and tell its session the process."""
        try:
            pid, pidfd = self._hand_over(kind, net, request) or self._fork(kind, net, request)
        except OSError as error:
            hint = "see the limits of processes and namespaces: pocket doctor"
            send(request.control, ("refused", f"no new container: {error.strerror}", hint))
            return
        send(request.control, ("started", pid), [pidfd])
        os.close(pidfd)

    def _hand_over(self, kind: str, net: str, request: Request) -> tuple[int, int] | None:
        """Give the request to the spare, if there is one, it fits and it still lives."""
        if self._spare is None or kind != "exec" or net != "host":
            return None
        pid, pidfd, sock = self._spare
        self._spare = None
        with sock:
            try:
                ask(sock, (kind, net), request.fds())
            except OSError:
                os.close(pidfd)
                return None
        return pid, pidfd

    def _fork(self, kind: str, net: str, request: Request) -> tuple[int, int]:  # noqa: RET503 - a child never returns
        if kind == "exec-as-init":
            pid = os.fork()
            pidfd = -1 if pid == 0 else os.pidfd_open(pid)
        else:
            pid, pidfd = linux.clone(linux.CLONE_NEWPID if kind == "helper" else namespaces(net))
        if pid:
            return pid, pidfd
        self._is_child(None if self._spare is None else self._spare[2])
        if kind == "helper":
            helper.run(self._host, request)
        if kind == "exec-as-init":
            watch_from_outside(self._host, request, net)
        run(self._host, request)

    def _is_child(self, other: socket.socket | None) -> None:
        """Close what only the forkserver may hold: the others would not see its end."""
        os.close(self._alive)
        self._sock.close()
        if other is not None:
            other.close()


def _prepare(sock: socket.socket) -> tuple[int, int, tuple[int, int]]:
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(sock, 0)
    if poll.poll(0):
        os._exit(1)  # the session died before the call above
    os.setsid()  # an interrupt from the terminal is the session's to handle
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Commands must not inherit what our caller ignores (a shell's background job ignores SIGINT and SIGQUIT).
    for number in signal.valid_signals() - {signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    keep = sock.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 65536)
    nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (nofile[1], nofile[1]))  # an overlay of 500 layers needs 500 descriptors
    workspace.make()
    os.chdir("/")
    gc.disable()
    gc.freeze()  # a collection would touch, and so copy, every page that is shared with the containers' first processes
    alive_r, alive_w = os.pipe()
    return alive_r, alive_w, nofile


def _mounts_refused(error: OSError) -> SandboxError:
    if error.filename == "unshare":
        # Ubuntu lets a user namespace be made, but gives it no privileges.
        return userns_refused(error)
    what = f"{error.filename}: {error.strerror}"
    return SandboxError(f"this machine refuses mounts in a namespace of our own ({what})", hint="inside a container, allow mounts "
                        "(docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined); or: --engine dagger")  # fmt: skip
