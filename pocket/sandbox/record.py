"""Owners that a step gives away where there is one id, and devices that it makes in a user namespace, written down while it runs.

The filter of these tiers (`pocket.sandbox.seccomp`) stops a thread that calls chown, getgroups or mknod for a device, and the process
that watches the command answers in the kernel's stead: it finds the file as the caller would, has the kernel copy it up, and notes
which inode of the upper directory is to belong to whom. Inodes, not paths: they survive renames and further names, and are gone when
the file is gone. What a step sees of owners does not change; the commit, and so every image and every later layer, has them true.

The caller is believed: what it changes in its memory or its directories meanwhile only changes what it has recorded for itself.
Nothing here may fail for good: an answer that cannot be given is an error number for the caller.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import marshal
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocket.sandbox import linux, seccomp
from pocket.sandbox.caller import Callers, failure
from pocket.sandbox.messages import send

if TYPE_CHECKING:
    import socket

    from pocket.sandbox.rootfs import Root
    from pocket.sandbox.spec import ExecSpec
    from pocket.sandbox.users import User

_RECEIVE, _SEND, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104  # SECCOMP_IOCTL_NOTIF_…
_SYNC_WAKE_UP = 1
_KEEP = 0xFFFFFFFF  # the id that means "as it is"
_AT_SYMLINK_NOFOLLOW = 0x100
_RETRIES = 5
_MACHINE = os.uname().machine
ROOT_MOUNT = -1

AS_IT_IS, AS_SEEN = -1, -2

#: One note: mount (its index, or ROOT_MOUNT), inode and birth of the file in the upper directory, uid and gid (AS_IT_IS: as it would be
#: without the note; AS_SEEN: a program that keeps an owner gave back the one that `stat` shows it), and the device that a placeholder
#: stands for, as the index of a layer has it ("c1:3").
Note = tuple[int, int, int, int, int, str]


@dataclass(frozen=True, slots=True)
class Place:
    """An overlay whose changes are kept: its device number, where it is mounted, what of it is shown there, its upper directory."""

    device: int
    target: str
    shown: str
    mount: int
    upper: int


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that waits for its answer."""

    ident: int
    pid: int
    name: str
    args: tuple[int, ...]


class Uppers:
    """The upper directories of a container, opened before its root hides them; each is a mount of its own with no way out of it."""

    def __init__(self, spec: ExecSpec) -> None:
        shown = {i: m.upper for i, m in enumerate(spec.mounts) if m.kind == "overlay" and m.upper and not m.readonly}
        self._opened = {index: linux.open_tree(upper) for index, upper in {ROOT_MOUNT: spec.upper, **shown}.items()}

    def places(self, root: Root) -> tuple[Place, ...]:
        """Say where in the container they can be changed, the deepest place first."""
        found = [("/", ROOT_MOUNT, ""), *((real, index, shown) for real, index, shown in root.mounted if index is not None)]
        places = [Place(os.stat(real).st_dev, real.rstrip("/"), shown, index, self._opened[index]) for real, index, shown in found]
        return tuple(sorted(places, key=lambda p: -len(p.target)))


class Recorder:
    """Answers the calls of one container; `fd` becomes readable when one waits."""

    def __init__(self, fd: int, proc: int, places: tuple[Place, ...], user: User, *, foreign: bool = False) -> None:
        """Take the listener and the directory of a procfs; foreign: it is of another pid namespace than this process is in."""
        self.fd = fd
        self._callers, self._places, self._user = Callers(proc, foreign=foreign), places, user
        self._notes: dict[tuple[int, int, int], tuple[int, int, str]] = {}
        with contextlib.suppress(OSError):  # Linux 6.6: caller and answerer take turns on one processor, which is several times as fast
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)

    def answer(self) -> None:
        """Answer the call that waits."""
        buffer = bytearray(80)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, buffer)
        except OSError:
            return  # its caller was killed meanwhile
        ident, pid, _, number, audit, *args = struct.unpack("=QIIiI8x6Q", buffer)
        call = _Call(ident, pid, seccomp.name(_MACHINE, audit, number), tuple(args))
        try:
            value, error = self._do(call), 0
        except OSError as refused:
            value, error = 0, -(refused.errno or errno.EIO)
        try:
            fcntl.ioctl(self.fd, _SEND, struct.pack("=QqiI", ident, value, error, 0))
        except OSError:
            return  # as above

    def send(self, control: socket.socket) -> None:
        """Tell the session what was noted, if anything was; call it when nothing of the step runs any more."""
        if not self._notes:
            return
        fd = os.memfd_create("owners")
        with open(fd, "wb") as file:
            file.write(marshal.dumps([(*key, *value) for key, value in self._notes.items()]))
            file.flush()
            send(control, ("owners",), [fd])

    def _do(self, call: _Call) -> int:
        wide = not call.name.endswith("16")
        match call.name.removesuffix("16"):
            case "getgroups":
                return self._groups(call, "I" if wide else "H")
            case "mknod":
                self._device(call, linux.AT_FDCWD, *call.args[:3])
            case "mknodat":
                self._device(call, _signed(call.args[0]), *call.args[1:4])
            case "fchown":
                self._owner(self._callers.descriptor(call.pid, _signed(call.args[0])), *call.args[1:3], wide=wide)
            case "fchownat":
                flags = call.args[4]
                fd = self._find(call, _signed(call.args[0]), call.args[1], follow=not flags & _AT_SYMLINK_NOFOLLOW, empty=flags)
                self._owner(fd, *call.args[2:4], wide=True)
            case name:
                fd = self._find(call, linux.AT_FDCWD, call.args[0], follow=name == "chown")
                self._owner(fd, *call.args[1:3], wide=wide)
        return 0

    # --- what is asked
    def _groups(self, call: _Call, form: str) -> int:
        room, groups = _signed(call.args[0]), self._user.groups
        if room:
            if room < len(groups):
                raise failure(errno.EINVAL)
            linux.write_memory(call.pid, call.args[1], struct.pack(f"={len(groups)}{form}", *groups))
        return len(groups)

    def _owner(self, fd: int | None, uid: int, gid: int, *, wide: bool) -> None:
        """Note an owner; the change itself, to the one id there is, has the kernel copy the file up and drop its setuid bit."""
        if fd is None:
            return
        try:
            uid, gid = (_widened(i, wide=wide) for i in (uid, gid))
            if self._user.uid and (uid not in (_KEEP, self._user.uid) or gid not in (_KEEP, self._user.gid, *self._user.groups)):
                raise failure(errno.EPERM)
            place = self._place(fd)
            self._touch(fd, uid, gid, lenient=place is None)
            if place is None:
                return  # a pipe, a device, a cache volume: nothing that becomes a layer
            key = self._identity(place, fd)
            self._notes[key] = self._noted(self._notes.get(key), uid, gid)
        finally:
            os.close(fd)

    def _noted(self, old: tuple[int, int, str] | None, uid: int, gid: int) -> tuple[int, int, str]:
        if old is None and (uid, gid) == (self._user.uid, self._user.gid):
            return AS_SEEN, AS_SEEN, ""
        old_uid, old_gid, device = old or (AS_IT_IS, AS_IT_IS, "")
        uid, gid = old_uid if uid == _KEEP else uid, old_gid if gid == _KEEP else gid
        seen = self._user.uid, self._user.gid  # half of what was as seen is now meant
        return *((shown if i == AS_SEEN else i) for i, shown in zip((uid, gid), seen, strict=True)), device  # type: ignore[return-value]

    def _touch(self, fd: int, uid: int, gid: int, *, lenient: bool) -> None:
        # The ids of this process's namespace: its only user is 0 whatever a step's own namespace calls it.
        try:
            linux.touch_owner(fd, *(_KEEP if i == _KEEP else 0 for i in (uid, gid)))
        except OSError as error:
            if not lenient or error.errno not in (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP):
                raise

    def _device(self, call: _Call, at: int, address: int, mode: int, number: int) -> None:
        """Make an empty file in place of a device, and note which one it stands for."""
        number &= 0xFFFFFFFF
        maker, umask = self._callers.maker(call.pid)
        if self._user.uid or maker or not number:
            raise failure(errno.EPERM)  # 0:0 is overlayfs's own mark of a deletion
        path = linux.read_string(call.pid, address)
        parent, _, name = path.rstrip(b"/").rpartition(b"/")
        folder = self._callers.walk(call.pid, at, parent or (b"/" if path.startswith(b"/") else b"."), os.O_PATH | os.O_DIRECTORY)
        if folder is None:
            raise failure(errno.EPERM)
        try:
            made = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            os.fchmod(made, mode & 0o7777 & ~umask)
            if (place := self._place(made)) is not None:
                kind = "c" if stat.S_ISCHR(mode) else "b"
                self._notes[self._identity(place, made)] = (AS_IT_IS, AS_IT_IS, f"{kind}{os.major(number)}:{os.minor(number)}")
        finally:
            os.close(made)

    # --- where it is
    def _place(self, fd: int) -> Place | None:
        device, path = os.fstat(fd).st_dev, self._callers.path(fd)
        inside = [p for p in self._places if p.device == device]
        return next((p for p in inside if path == p.target or path.startswith(p.target + "/")), inside[0] if inside else None)

    def _identity(self, place: Place, fd: int) -> tuple[int, int, int]:
        """Identify a file in its upper directory.

        The overlay itself shows the number of the inode in the lower layer for what was copied up, but tells when the upper one was
        born. A file that has lost its name is in no lower layer, and its number is its own.
        """
        seen = linux.identity("", dirfd=fd)
        for _ in range(_RETRIES):
            path = self._callers.path(fd)
            inside = f"{place.shown}/{path[len(place.target) :].lstrip('/')}".strip("/")
            try:
                real = linux.identity(inside, dirfd=place.upper)
            except OSError:
                real = None
            if real is not None and real.born == seen.born:
                return place.mount, real.inode, real.born
            if path == self._callers.path(fd):
                break  # else somebody renamed it, or a directory above, while we looked
        return place.mount, seen.inode, seen.born

    def _find(self, call: _Call, at: int, address: int, *, follow: bool, empty: int = 0) -> int | None:
        path = linux.read_string(call.pid, address)
        if not path and empty & linux.AT_EMPTY_PATH:
            return self._callers.descriptor(call.pid, at)
        if not path:
            raise failure(errno.ENOENT)
        return self._callers.walk(call.pid, at, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _widened(value: int, *, wide: bool) -> int:
    if wide:
        return value & 0xFFFFFFFF
    value &= 0xFFFF
    return _KEEP if value == 0xFFFF else value
