"""The few system calls that Python does not offer, through libc; each raises OSError with the path or option concerned.

x86-64 and arm64. Numbers of calls since Linux 5.2 are the same everywhere; older ones that glibc does not wrap are per machine.
Nothing here imports more than ctypes, os and platform data: the forkserver loads this module and must stay small.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE, MS_SLAVE = 0x1000, 0x2000, 0x4000, 1 << 18, 1 << 19
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
CLONE_PIDFD = 0x1000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 15, 38, 22, 24
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x08, 0x10
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000

_AT_SYMLINK_NOFOLLOW, _AT_RECURSIVE = 0x100, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_SIGCHLD = 17
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_CLOSE_RANGE, _SYS_OPENAT2, _SYS_MOUNT_SETATTR = 428, 429, 436, 437, 442
_MACHINE = os.uname().machine
_SYS_PIVOT_ROOT, _SYS_CLONE, _SYS_SECCOMP, _SYS_STATX = (41, 220, 277, 291) if _MACHINE == "aarch64" else (155, 56, 317, 332)
_FILTER_NEW_LISTENER, _FILTER_WAIT_KILLABLE = 1 << 3, 1 << 5
_STATX_BASIC_AND_BTIME, _STATX_BTIME = 0xFFF, 0x800
_PAGE = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
# PyDLL keeps the interpreter lock: after a bare clone the child must not have to take a lock that somebody held.
_locked = ctypes.PyDLL(None, use_errno=True)
_locked.syscall.restype = ctypes.c_long
_LONG = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def _syscall(what: str, number: int, *args: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    converted = [_LONG(a) if isinstance(a, int) else a for a in args]
    return _check(int(_libc.syscall(_LONG(number), *converted)), what)


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """Mount a file system; the data page holds at most 4095 bytes and is cut silently beyond, hence the check."""
    packed = os.fsencode(data)
    if len(packed) > 4095:
        raise OSError(7, "mount options are longer than a page", target)
    result = _libc.mount(os.fsencode(source), os.fsencode(target), fstype.encode(), ctypes.c_ulong(flags), packed or None)
    _check(result, target)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """Take a mount away."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace and put the old one at `old`."""
    _syscall(new, _SYS_PIVOT_ROOT, os.fsencode(new), os.fsencode(old))


def unshare(flags: int) -> None:
    """Leave the namespaces that the CLONE_NEW… flags name for fresh ones."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace behind a descriptor; `kind` is its CLONE_NEW… flag."""
    _check(_libc.setns(fd, kind), "setns")


def prctl(option: int, arg2: int | bytes = 0, arg3: int | ctypes.Array[ctypes.c_char] = 0) -> int:
    """Change a property of this process, named by a PR_… number."""
    second = ctypes.c_ulong(arg2) if isinstance(arg2, int) else arg2
    third = ctypes.c_ulong(arg3) if isinstance(arg3, int) else arg3
    return _check(_libc.prctl(option, second, third, ctypes.c_ulong(0), ctypes.c_ulong(0)), f"prctl {option}")


def clone(flags: int) -> tuple[int, int]:
    """Fork into new namespaces: (0, -1) in the child, (pid, pidfd) in the parent, which must have a single thread.

    One bare system call instead of unshare and fork saves a process per command. Python's after-fork work is skipped; with one
    thread there is no lock it would have to mend.
    """
    pidfd = ctypes.c_int(-1)
    number = _LONG(flags | CLONE_PIDFD | _SIGCHLD)
    pid = _locked.syscall(_LONG(_SYS_CLONE), number, None, ctypes.byref(pidfd), None, None)
    _check(int(pid), "clone")
    return (0, -1) if pid == 0 else (int(pid), pidfd.value)


def open_tree(path: str, *, dirfd: int = AT_FDCWD) -> int:
    """Return a detached copy of the mount at `path` ("" is `dirfd` itself) with everything below it."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE | (0 if path else AT_EMPTY_PATH)
    return _syscall(path, _SYS_OPEN_TREE, dirfd, os.fsencode(path), flags)


def move_mount(fd: int, target: str) -> None:
    """Attach the mount behind a descriptor at `target`."""
    _syscall(target, _SYS_MOVE_MOUNT, fd, b"", AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def mount_setattr(fd: int, attributes: int, *, recursive: bool = True) -> None:
    """Set ATTR_… flags of a mount; unlike a remount it needs no repetition of locked flags and reaches mounts below."""
    record = struct.pack("=QQQQ", attributes, 0, 0, 0)
    flags = AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _syscall("mount_setattr", _SYS_MOUNT_SETATTR, fd, b"", flags, record, len(record))


def open_in_root(root: int, path: str | bytes, flags: int, resolve: int = RESOLVE_IN_ROOT) -> int:
    """Open `path` as if the directory `root` were "/": no link leads out of it (with RESOLVE_BENEATH: EXDEV when one tries)."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _syscall(os.fsdecode(path), _SYS_OPENAT2, root, os.fsencode(path), how, len(how))


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` on as close-on-exec."""
    _syscall("close_range", _SYS_CLOSE_RANGE, first, 0x7FFFFFFF, 4)


def sethostname(name: str) -> None:
    """Set the host name of the current UTS namespace."""
    raw = os.fsencode(name)
    _check(_libc.sethostname(raw, ctypes.c_size_t(len(raw))), name)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this process's capability sets, given as bit masks."""
    header = struct.pack("=Ii", 0x20080522, 0)
    low, high = 0xFFFFFFFF, 32
    sets = (effective, permitted, inheritable)
    data = struct.pack("=6I", *(s & low for s in sets), *(s >> high for s in sets))
    _check(_libc.capset(header, data), "capset")


def capabilities() -> int:
    """Return this process's permitted capabilities as a bit mask."""
    header = struct.pack("=Ii", 0x20080522, 0)
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data), "capget")
    low, high = struct.unpack_from("=4xI8xI", data.raw)
    return int(low) | int(high) << 32


def set_seccomp(program: bytes) -> None:
    """Install a BPF program (8 bytes an instruction) as the seccomp filter of this process and its children."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)), 16)
    prctl(PR_SET_SECCOMP, 2, fprog)


def listen_seccomp(program: bytes) -> int:
    """Install a filter as `set_seccomp` does; return the descriptor that its notifications are read from.

    A kernel that can keep signals from interrupting a call that is being answered (5.19) is asked to.
    """
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    try:
        return _syscall("seccomp", _SYS_SECCOMP, 1, _FILTER_NEW_LISTENER | _FILTER_WAIT_KILLABLE, fprog)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return _syscall("seccomp", _SYS_SECCOMP, 1, _FILTER_NEW_LISTENER, fprog)


def touch_owner(fd: int, uid: int, gid: int) -> None:
    """Change the owner of what an O_PATH descriptor shows, links included."""
    _check(_libc.fchownat(fd, b"", ctypes.c_uint32(uid), ctypes.c_uint32(gid), AT_EMPTY_PATH), "fchownat")


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells an inode from all others of its file system, also from later ones of the same number; `links` names it has."""

    device: int
    inode: int
    born: int  # nanoseconds; 0 where the file system does not say
    links: int


def identity(path: str, *, dirfd: int = AT_FDCWD) -> Identity:
    """Identify what is at a path, links not followed ("" is `dirfd` itself)."""
    data = ctypes.create_string_buffer(256)
    flags = _AT_SYMLINK_NOFOLLOW | (0 if path else AT_EMPTY_PATH)
    _syscall(path, _SYS_STATX, dirfd, os.fsencode(path), flags, _STATX_BASIC_AND_BTIME, data)
    mask, links, inode, seconds, nanoseconds, major, minor = struct.unpack_from("=I12xI12xQ40xqI44xII", data.raw)
    return Identity(os.makedev(major, minor), inode, (seconds * 10**9 + nanoseconds) if mask & _STATX_BTIME else 0, links)


def read_string(pid: int, address: int, limit: int = 4096) -> bytes:
    """Read a NUL-terminated string of at most `limit` bytes from another process."""
    found = b""
    while len(found) < limit:
        size = min(_PAGE - (address + len(found)) % _PAGE, limit - len(found))
        piece = ctypes.create_string_buffer(size)
        _transfer(_libc.process_vm_readv, pid, piece, address + len(found))
        found += piece.raw
        if (end := found.find(b"\0")) >= 0:
            return found[:end]
    raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def write_memory(pid: int, address: int, data: bytes) -> None:
    """Write into another process."""
    _transfer(_libc.process_vm_writev, pid, ctypes.create_string_buffer(data, len(data)), address)


def _transfer(call: Callable[..., int], pid: int, local: ctypes.Array[ctypes.c_char], address: int) -> None:
    here = struct.pack("@PN", ctypes.addressof(local), len(local))
    there = struct.pack("@PN", address, len(local))
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    if _check(call(ctypes.c_int(pid), here, one, there, one, none), "memory of a process") != len(local):
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
