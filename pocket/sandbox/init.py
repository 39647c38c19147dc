"""The container's first process: builds the root, starts the command, reaps, and ends everything when the command ends.

It is a fork of the forkserver and stays a Python process, so nothing may be imported after the root has changed. With `no_init`
the command itself is pid 1, and the watching is done by a process outside (`watch_from_outside`).
Messages to the session, each a marshalled tuple: ("setup", …) when the root stands, ("exit", status, timed_out) at the end,
("step", message) or ("refused", message, hint) instead. From the session: b"t" terminate, b"s15" signal the command.
"""

from __future__ import annotations

import contextlib
import fcntl
import marshal
import os
import select
import signal
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never

from pocket.errors import PocketError
from pocket.sandbox import command, linux, rootfs, users
from pocket.sandbox.errors import StepError
from pocket.sandbox.spec import ExecSpec, from_wire
from pocket.sandbox.supervise import supervise, wake_on_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from pocket.sandbox.tier import Tier

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the forkserver received: descriptors, and what all containers share."""

    tier: Tier
    spec: int
    control: socket.socket
    streams: tuple[int, int, int]
    net: int | None
    alive: int  # end of file means that the forkserver is gone
    nofile: tuple[int, int]


def namespaces(net: str) -> int:
    """Return the clone flags of a container."""
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
    return flags | linux.CLONE_NEWNET if net == "none" else flags


def run(request: Request) -> Never:
    """Be pid 1 of a container until its command has ended."""
    _guarded(request, lambda: _run(request))


def watch_from_outside(request: Request, net: str) -> Never:
    """Start a container whose command is pid 1, and report how it ends."""

    def watch() -> Never:
        _die_with_parent(request.alive)
        wake = wake_on_child()
        pid, _ = linux.clone(namespaces(net))
        if pid == 0:
            _guarded(request, lambda: _run(request))
        spec = _read_spec(request.spec)
        _report(request, pid, wake, spec.timeout, spec.grace)

    _guarded(request, watch)


def run_helper(request: Request) -> Never:
    """Be pid 1 of a pid namespace for a program of the host, which finds the network namespace at descriptor 3."""

    def help_() -> Never:
        _die_with_parent(request.alive)
        argv = marshal.loads(os.pread(request.spec, os.fstat(request.spec).st_size, 0))  # noqa: S302 - written by our own session
        wake = wake_on_child()
        pid = os.fork()
        if pid == 0:
            command.default_signals()
            os.setsid()
            for target, fd in enumerate((*request.streams, request.net or 0)):
                os.dup2(fd, target)
            linux.close_on_exec_from(4)
            os.execv(argv[0], argv)  # noqa: S606 - a program that the caller looked up
        _report(request, pid, wake, None, 2.0)

    _guarded(request, help_)


def _guarded(request: Request, body: Callable[[], Never]) -> Never:
    """Run `body`; whatever goes wrong becomes a message to the session."""
    try:
        body()
    except StepError as error:
        _send(request.control, ("step", error.message))
    except PocketError as error:
        _send(request.control, ("refused", error.message, error.hint))
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        _send(request.control, ("refused", f"the container cannot be made: {what}{error.strerror}", "run: pocket doctor"))
    except BaseException as error:  # noqa: BLE001 - this process has nobody else to tell
        _send(request.control, ("refused", f"the container cannot be made: {error!r}", ""))
    os._exit(125)


def _run(request: Request) -> Never:
    _die_with_parent(request.alive)
    linux.prctl(linux.PR_SET_NAME, b"pocket-init")
    spec = _read_spec(request.spec)
    if request.net is not None:
        linux.setns(request.net, linux.CLONE_NEWNET)
    elif spec.netns == "none":
        _loopback_up()
    linux.sethostname(spec.hostname)
    root = rootfs.enter(spec, request.tier)
    user = users.resolve(spec.user)
    stdin, files = _redirects(request, spec)
    made_cwd = _working_directory(spec, request.tier, user)
    owner = (user.uid, user.gid) if request.tier.name == "single-uid" else None
    report = ("setup", tuple(root.stubs), tuple(root.mount_stubs), made_cwd, owner, tuple(root.notes), tuple(files))
    _send(request.control, report, list(files.values()))
    for fd in files.values():
        os.close(fd)
    streams = (stdin, *request.streams[1:])
    if spec.no_init:
        _execute(request, spec, user, streams)
    wake = wake_on_child()
    pid = os.fork()
    if pid == 0:
        _execute(request, spec, user, streams)
    for fd in {*streams, *request.streams}:
        os.close(fd)  # or a reader of the output would wait for this process
    # The step may not look into this process, which has all capabilities of the container's namespace.
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    _report(request, pid, wake, spec.timeout, spec.grace)


def _execute(request: Request, spec: ExecSpec, user: users.User, streams: tuple[int, int, int]) -> Never:
    try:
        command.execute(spec, request.tier, user, streams, request.nofile)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        _send(request.control, ("step", f"cannot run {spec.argv[0]}: {what}{(error.strerror or '').lower()}"))
        os._exit(125)


def _report(request: Request, child: int, wake: int, timeout: float | None, grace: float) -> Never:
    status, timed_out = supervise(request.control, child, wake, timeout=timeout, grace=grace)
    _send(request.control, ("exit", status, timed_out))
    os._exit(0)


def _die_with_parent(alive: int) -> None:
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(alive, 0)
    if poll.poll(0):
        os._exit(125)  # it died before the call above


def _read_spec(fd: int) -> ExecSpec:
    # At an offset of its own: with `no_init` two processes read the same open file.
    return from_wire(marshal.loads(os.pread(fd, os.fstat(fd).st_size, 0)))  # noqa: S302 - written by our own session


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("16xH", fcntl.ioctl(s, _SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(s, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def _redirects(request: Request, spec: ExecSpec) -> tuple[int, dict[int, int]]:
    """Open the files that streams are redirected to, before the working directory is made (an observed order)."""
    stdin, files = request.streams[0], {}
    if spec.redirect_stdin:
        stdin = _open_redirect(spec, spec.redirect_stdin, os.O_RDONLY)
    for stream, path in ((1, spec.redirect_stdout), (2, spec.redirect_stderr)):
        if path:
            files[stream] = _open_redirect(spec, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    return stdin, files


def _open_redirect(spec: ExecSpec, path: str, flags: int) -> int:
    path = os.path.join("/", spec.cwd, path)
    try:
        return os.open(path, flags, 0o644)
    except OSError as error:
        raise StepError(f"open {path}: {(error.strerror or '').lower()}") from error


def _working_directory(spec: ExecSpec, tier: Tier, user: users.User) -> tuple[str, ...]:
    """Make the working directory when it is missing; what is made belongs to the user."""
    missing = []
    path = os.path.normpath("/" + spec.cwd)
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    for path in reversed(missing):
        try:
            os.mkdir(path, 0o755)
            os.chmod(path, 0o755)
        except OSError as error:
            raise StepError(f"mkdir {path}: {(error.strerror or '').lower()}") from error
        if tier.name != "single-uid":
            os.chown(path, user.uid, user.gid)
    if not os.path.isdir(spec.cwd):
        raise StepError(f"chdir {spec.cwd}: not a directory")
    return tuple(p.lstrip("/") for p in reversed(missing))


def _send(control: socket.socket, message: tuple[Any, ...], fds: list[int] | None = None) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more: the session is ending, and this process with it
        socket.send_fds(control, [marshal.dumps(message)], fds or [])
