"""The zygote: a small process with one thread that forks every container, so that no interpreter is started for a command.

It is forked from the session before that has threads, holds no state of any container, waits for nothing but requests, and dies
with the session; its containers die with it. Children are reaped by the kernel (SIGCHLD ignored).
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import resource
import select
import signal
import socket
from typing import TYPE_CHECKING, Never

from pocket.errors import PocketError
from pocket.sandbox import init, linux, workspace
from pocket.sandbox.errors import SandboxError
from pocket.sandbox.tier import userns_refused

if TYPE_CHECKING:
    from pocket.sandbox.tier import Tier

#: The order in which a request carries its descriptors; the network namespace only when there is one. A request is
#: ("exec" | "exec-as-init" | "helper", network): the last is a program of the host for a namespace, its argv in place of the spec.
DESCRIPTORS = ("spec", "stdin", "stdout", "stderr", "control", "net")


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
    while True:
        data, fds, _, _ = socket.recv_fds(sock, 65536, len(DESCRIPTORS), socket.MSG_CMSG_CLOEXEC)
        if not data:
            os._exit(0)
        kind, *rest = marshal.loads(data)  # noqa: S302 - from our own session
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fds[4])
        try:
            pid, pidfd = _fork(kind, rest[0])
        except OSError as error:
            problem = ("refused", f"no new container: {error.strerror}", "see the limits of processes and namespaces: pocket doctor")
            socket.send_fds(control, [marshal.dumps(problem)], [])
        else:
            if pid == 0:
                os.close(alive_w)
                sock.close()
                request = init.Request(
                    tier=tier, spec=fds[0], control=control, streams=(fds[1], fds[2], fds[3]), net=fds[5] if len(fds) > 5 else None,
                    alive=alive_r, nofile=nofile,
                )  # fmt: skip
                _be(kind, request, rest[0])
            with contextlib.suppress(OSError):
                socket.send_fds(control, [marshal.dumps(("started", pid))], [pidfd])
            os.close(pidfd)
        control.close()
        for fd in {*fds} - {fds[4]}:
            os.close(fd)


def _fork(kind: str, net: str) -> tuple[int, int]:
    if kind == "helper":
        return linux.clone(linux.CLONE_NEWPID)
    if kind == "exec":
        return linux.clone(init.namespaces(net))
    pid = os.fork()
    return (0, -1) if pid == 0 else (pid, os.pidfd_open(pid))


def _be(kind: str, request: init.Request, net: str) -> Never:
    if kind == "helper":
        init.run_helper(request)
    if kind == "exec":
        init.run(request)
    init.watch_from_outside(request, net)


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
