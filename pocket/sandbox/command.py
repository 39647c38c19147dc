"""The last step before execve: streams, user, capabilities, filter; the errors of a command that cannot be executed.

What a command that cannot be executed prints, and its exit code 1, are those of Dagger's init.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
from typing import TYPE_CHECKING, Never

from pocket.sandbox import linux, seccomp
from pocket.sandbox.spec import DEFAULT_PATH

if TYPE_CHECKING:
    from pocket.sandbox.spec import ExecSpec
    from pocket.sandbox.tier import Tier
    from pocket.sandbox.users import User

# Docker's: chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write setfcap
_CAPABILITIES = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
_TIOCSCTTY = 0x540E
_MESSAGES = {errno.EACCES: "permission denied", errno.ENOENT: "no such file or directory", errno.ENOEXEC: "exec format error"}


def prepare(tier: Tier, nofile: tuple[int, int], *, insecure: bool) -> int | None:
    """Do what needs no request: session, signals, limits, what may never be regained, the filter.

    Returns the filter's listener, for a `Recorder` in another process; None without one.
    """
    os.setsid()  # no controlling terminal, so no TIOCSTI into the user's shell, and a process group to signal
    default_signals()
    resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
    os.umask(0o022)
    if not insecure:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        for bit in range(64):
            if not _CAPABILITIES >> bit & 1:
                try:
                    linux.prctl(linux.PR_CAPBSET_DROP, bit)
                except OSError:
                    break  # past the last capability of this kernel
    return None if tier.name == "root" else _filter(single=tier.name == "single-uid")  # while an insecure step has CAP_SYS_ADMIN for it


def _filter(*, single: bool) -> int | None:
    machine = os.uname().machine
    if not (program := seccomp.program(machine, single=single, listened=True)):
        return None
    try:
        return linux.listen_seccomp(program)
    except OSError:  # a filter around this session has a listener already, and there can be one only
        if program := seccomp.program(machine, single=single, listened=False):
            linux.set_seccomp(program)
    return None


def execute(spec: ExecSpec, tier: Tier, user: User, streams: tuple[int, int, int]) -> Never:
    """Become the command, after `prepare`; exits with 1 and a message on its stderr when it cannot be executed."""
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
    linux.close_on_exec_from(3)
    if spec.tty:
        fcntl.ioctl(0, _TIOCSCTTY, 0)  # signals of its keys go to whatever it runs in the foreground
    os.chdir(spec.cwd)
    environment = _environment(spec, user)
    _become(spec, tier, user)
    try:
        os.execve(_program(spec.argv[0], environment["PATH"]), spec.argv, environment)  # noqa: S606 - running it is the purpose
    except OSError as error:
        message = _MESSAGES.get(error.errno or 0, (error.strerror or "").lower())
        _refuse(f"fork/exec {spec.argv[0]}: {message}")


def default_signals() -> None:
    """Undo what Python and the forkserver ignore: an ignored signal would stay so after execve."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _environment(spec: ExecSpec, user: User) -> dict[str, str]:
    declared = dict(item.partition("=")[::2] for item in spec.env)
    return {"PATH": DEFAULT_PATH, "HOME": user.home, **declared}


def _program(name: str, path: str) -> str:
    if "/" in name:
        return name
    for directory in path.split(":"):
        candidate = f"{directory or '.'}/{name}"
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    return _refuse(f'exec: "{name}": executable file not found in $PATH')


def _refuse(message: str) -> Never:
    os.write(2, f"{message}\n".encode(errors="surrogateescape"))
    os._exit(1)


def _become(spec: ExecSpec, tier: Tier, user: User) -> None:
    """Drop to the user and to Docker's capabilities; in the single-uid tier the user exists in a namespace of its own only."""
    if tier.name == "single-uid":
        if (user.uid, user.gid) != (0, 0):
            _map_user(user)
            return
    else:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    if user.uid == 0 and not spec.insecure:
        allowed = linux.capabilities() & _CAPABILITIES
        linux.capset(allowed, allowed, 0)


def _map_user(user: User) -> None:
    """Enter a user namespace in which our one id is called what the user is called, so that `id` and new files agree."""
    linux.unshare(linux.CLONE_NEWUSER)
    linux.prctl(linux.PR_SET_DUMPABLE, 1)  # the maps of an undumpable process cannot be written
    for name, inner in (("uid_map", user.uid), ("gid_map", user.gid)):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(fd, f"{inner} 0 1\n".encode())
        os.close(fd)
