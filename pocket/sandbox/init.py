"""The container's first process: builds the root, starts the command, reaps, and ends everything when the command ends.

It is a fork of the forkserver and stays a Python process, so nothing may be imported after the root has changed. What does not depend
on the request (namespaces, /proc, /dev, the command's own process) can be made before there is one: `be_spare`. With `no_init` the
command itself is pid 1, and the watching is done by a process outside (`watch_from_outside`).
Messages to the session, each a marshalled tuple: ("setup", …) when the root stands, ("owners",) when the step gave files away and
("exit", status, timed_out) at the end, ("step", message) or ("refused", message, hint) instead. From the session: b"t" terminate,
b"s15" signal the command.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import select
import signal
import socket
import struct
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Never

from pocket.errors import PocketError
from pocket.sandbox import command, linux, rootfs, users
from pocket.sandbox.errors import StepError
from pocket.sandbox.messages import Request, read_spec, receive, send
from pocket.sandbox.record import Place, Recorder, Uppers
from pocket.sandbox.spec import ExecSpec, from_wire, to_wire
from pocket.sandbox.supervise import supervise, wake_on_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from pocket.sandbox.tier import Tier

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_MOST_PLACES = 200  # descriptors in one message; the kernel takes 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What all containers of a forkserver share."""

    tier: Tier
    alive: int  # end of file means that the forkserver is gone
    nofile: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Command:
    """The process that will be the command: it waits for a request with everything done that needs none."""

    pid: int
    sock: socket.socket
    wake: int


def namespaces(net: str) -> int:
    """Return the clone flags of a container."""
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
    return flags | linux.CLONE_NEWNET if net == "none" else flags


def run(host: Host, request: Request, outside: socket.socket | None = None) -> Never:
    """Be pid 1 of a container until its command has ended; `outside` is who watches where the command itself is pid 1."""

    def body() -> Never:
        die_with_parent(host.alive)
        _run(host, request, rootfs.prepare(host.tier, insecure=read_spec(request.spec).insecure), None, outside)

    guarded(request.control, body)


def be_spare(host: Host, sock: socket.socket) -> Never:
    """Be pid 1 of a container in the host's network whose request is still to come, over `sock`."""
    try:
        die_with_parent(host.alive)
        ground = rootfs.prepare(host.tier, insecure=False)
        child = _fork_command(host, insecure=False)
        _rehearse()
        message = receive(sock)
    except BaseException:  # noqa: BLE001 - the forkserver notices, and makes a container that can report what is wrong
        os._exit(125)
    if message is None:
        os._exit(0)
    guarded(message[1].control, lambda: _run(host, message[1], ground, child))


def watch_from_outside(host: Host, request: Request, net: str) -> Never:
    """Start a container whose command is pid 1, and report how it ends."""

    def watch() -> Never:
        die_with_parent(host.alive)
        wake = wake_on_child()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid, _ = linux.clone(namespaces(net))
        if pid == 0:
            ours.close()
            run(host, request, theirs)
        theirs.close()
        spec = read_spec(request.spec)
        report(request.control, pid, wake, timeout=spec.timeout, grace=spec.grace, recorder=_recorder_outside(host, ours))

    guarded(request.control, watch)


def guarded(control: socket.socket, body: Callable[[], Never]) -> Never:
    """Run `body`; whatever goes wrong becomes a message to the session."""
    try:
        body()
    except StepError as error:
        send(control, ("step", error.message))
    except PocketError as error:
        send(control, ("refused", error.message, error.hint))
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        send(control, ("refused", f"the container cannot be made: {what}{error.strerror}", "run: pocket doctor"))
    except BaseException as error:  # noqa: BLE001 - this process has nobody else to tell
        send(control, ("refused", f"the container cannot be made: {error!r}", ""))
    os._exit(125)


def die_with_parent(alive: int) -> None:
    """Have the kernel kill this process when the forkserver ends; `alive` tells whether it has already."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(alive, 0)
    if poll.poll(0):
        os._exit(125)


def report(
    control: socket.socket, child: int, wake: int, *, timeout: float | None, grace: float, recorder: Recorder | None = None
) -> Never:
    """Watch a process to its end, and tell the session."""
    status, timed_out = supervise(control, child, wake, timeout=timeout, grace=grace, recorder=recorder)
    if recorder is not None:
        recorder.send(control)
    send(control, ("exit", status, timed_out))
    os._exit(0)


def _run(host: Host, request: Request, ground: rootfs.Ground, child: _Command | None, outside: socket.socket | None = None) -> Never:
    spec = read_spec(request.spec)
    if request.net is not None:
        linux.setns(request.net, linux.CLONE_NEWNET)
    elif spec.netns == "none":
        _loopback_up()
    linux.sethostname(spec.hostname)
    if child is None and not spec.no_init:
        child = _fork_command(host, insecure=spec.insecure)
    uppers = None if host.tier.name == "root" else Uppers(spec)
    root = rootfs.enter(spec, host.tier, ground)
    user = users.resolve(spec.user)
    streams, files = _terminal(user, host.tier) if spec.tty else _redirects(request, spec, host.tier, user)
    made_cwd = _working_directory(spec, host.tier, user)
    owner = (user.uid, user.gid) if host.tier.name == "single-uid" else None
    setup = ("setup", tuple(root.stubs), tuple(root.mount_stubs), made_cwd, owner, tuple(root.notes), tuple(files))
    send(request.control, setup, list(files.values()))
    for fd in files.values():
        os.close(fd)
    places = uppers.places(root) if uppers is not None else ()
    if child is None:
        listener = command.prepare(host.tier, host.nofile, insecure=spec.insecure)
        if outside is not None and listener is not None:
            _tell_outside(outside, listener, places, user)
        _execute(host, request.control, spec, user, streams)
    listener = _listener(child.sock) if places else None
    child.sock.sendmsg([marshal.dumps(astuple(user))], _rights([request.spec, *streams, request.control.fileno()]))
    for fd in {*streams, *request.streams, request.spec, child.sock.detach()}:
        os.close(fd)  # or a reader of the output would wait for this process
    recorder = None if listener is None else Recorder(listener, _procfs(), places, user, foreign=bool(ground.notes))
    report(request.control, child.pid, child.wake, timeout=spec.timeout, grace=spec.grace, recorder=recorder)


def _rehearse() -> None:
    """Touch what a request will touch: the first write to a page that a fork shares costs microseconds, and there are hundreds."""
    from_wire(marshal.loads(marshal.dumps(to_wire(ExecSpec(lowers=("a",), upper="b", work="c", argv=("d",), env=("e=f",))))))  # noqa: S302 - our own data
    users.resolve("", "/nonexistent")


def _rights(fds: list[int]) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"@{len(fds)}i", *fds))]


def _fork_command(host: Host, *, insecure: bool) -> _Command:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wake = wake_on_child()
    pid = os.fork()
    if pid == 0:
        ours.close()
        try:
            _hand_up(theirs, command.prepare(host.tier, host.nofile, insecure=insecure), host.tier)
            _rehearse()
            data, fds, _, _ = socket.recv_fds(theirs, 65536, 5, socket.MSG_CMSG_CLOEXEC)
            if data:
                control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fds[4])
                user = users.User.of(marshal.loads(data))  # noqa: S302 - from the process that forked this one
                _execute(host, control, read_spec(fds[0]), user, (fds[1], fds[2], fds[3]))
        finally:
            os._exit(125)
    theirs.close()
    linux.prctl(linux.PR_SET_NAME, b"pocket-init")
    # The step may not look into this process, which has all capabilities of the container's namespace.
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    return _Command(pid, ours, wake)


def _hand_up(sock: socket.socket, listener: int | None, tier: Tier) -> None:
    """Give the filter's listener to the parent, which answers for it; also that there is none."""
    if tier.name == "root":
        return
    sock.sendmsg([b"filtered"], [] if listener is None else _rights([listener]))
    if listener is not None:
        os.close(listener)


def _listener(sock: socket.socket) -> int | None:
    _, fds, _, _ = socket.recv_fds(sock, 16, 1, socket.MSG_CMSG_CLOEXEC)
    return fds[0] if fds else None


def _tell_outside(outside: socket.socket, listener: int, places: tuple[Place, ...], user: users.User) -> None:
    known = places[:_MOST_PLACES]
    message = marshal.dumps((astuple(user), [astuple(p)[:-1] for p in known]))
    with outside:
        outside.sendmsg([message], _rights([listener, *(p.upper for p in known)]))
    os.close(listener)


def _recorder_outside(host: Host, inside: socket.socket) -> Recorder | None:
    """Make the recorder of a command that is pid 1 itself, once its root stands; None when it does not come so far."""
    with inside:
        data, fds, _, _ = socket.recv_fds(inside, 1 << 20, _MOST_PLACES + 1, socket.MSG_CMSG_CLOEXEC)
    if not data or host.tier.name == "root":
        return None
    user, places = marshal.loads(data)  # noqa: S302 - from the process that this one forked
    found = tuple(Place(device, target, shown, mount, upper) for (device, target, shown, mount), upper in zip(places, fds[1:], strict=True))
    return Recorder(fds[0], _procfs(), found, users.User.of(user))


def _procfs() -> int:
    return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)


def _execute(host: Host, control: socket.socket, spec: ExecSpec, user: users.User, streams: tuple[int, int, int]) -> Never:
    try:
        command.execute(spec, host.tier, user, streams)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        send(control, ("step", f"cannot run {spec.argv[0]}: {what}{(error.strerror or '').lower()}"))
        os._exit(125)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("16xH", fcntl.ioctl(s, _SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(s, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def _terminal(user: users.User, tier: Tier) -> tuple[tuple[int, int, int], dict[int, int]]:
    """Open a terminal of the container's own devices: the command's side for its streams, the other one for the session."""
    session, side = os.openpty()
    if tier.name != "single-uid":
        os.fchown(side, user.uid, -1)
    return (side, side, side), {0: session}


def _redirects(request: Request, spec: ExecSpec, tier: Tier, user: users.User) -> tuple[tuple[int, int, int], dict[int, int]]:
    """Open the files that streams are redirected to, before the working directory is made; they are the user's and nobody else's."""
    stdin, files = request.streams[0], {}
    if spec.redirect_stdin:
        stdin = _open_redirect(spec, "stdin", spec.redirect_stdin, os.O_RDONLY)
    for stream, name, path in ((1, "stdout", spec.redirect_stdout), (2, "stderr", spec.redirect_stderr)):
        if path:
            files[stream] = _open_redirect(spec, name, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            if tier.name != "single-uid":
                os.fchown(files[stream], user.uid, user.gid)
    return (stdin, *request.streams[1:]), files


def _open_redirect(spec: ExecSpec, name: str, path: str, flags: int) -> int:
    path = os.path.join("/", spec.cwd, path)
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise StepError(f"open redirect {name} file: open {path}: {(error.strerror or '').lower()}") from error


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
