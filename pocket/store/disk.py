"""The few file-system facts the store depends on: copies, attributes, removal of what overlayfs leaves, one sync per batch."""

import base64
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pocket.errors import StoreError
from pocket.store.index import Entry, Xattrs

_FICLONE = 0x40049409
_BLOCK = 1 << 20
OPAQUE = {"root": "trusted.overlay.opaque", "subuid": "user.overlay.opaque", "single-uid": "user.overlay.opaque"}
_HINTS = {
    errno.ENOSPC: "free some space, run `pocket prune`, or set WEIGHBRIDGE_CACHE to a larger disk",
    errno.EDQUOT: "the quota is used up: run `pocket prune`, or set WEIGHBRIDGE_CACHE to another disk",
    errno.EROFS: "the file system is read-only: set WEIGHBRIDGE_CACHE to a writable directory",
    errno.EACCES: "the directory belongs to someone else: set WEIGHBRIDGE_CACHE to a directory of your own",
    errno.ENOTDIR: "a part of the path is a file: set WEIGHBRIDGE_CACHE to a directory",
    errno.EPERM: "the directory belongs to someone else: set WEIGHBRIDGE_CACHE to a directory of your own",
}
_SCARCE = 1 << 20  # bytes: less than this is none
_NO_CLONE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.EBADF, errno.ENOSYS, errno.ETXTBSY}


def copy_data(source: int, dest: int) -> None:
    """Copy a file's bytes between descriptors: a shared extent where the file system can, else in the kernel, else by hand."""
    try:
        fcntl.ioctl(dest, _FICLONE, source)
    except OSError as e:
        if e.errno not in _NO_CLONE:
            raise
    else:
        return
    offset = 0
    try:
        while n := os.copy_file_range(source, dest, 1 << 30, offset, offset):
            offset += n
    except OSError as e:
        if e.errno not in _NO_CLONE:
            raise
    os.lseek(source, offset, os.SEEK_SET)
    os.lseek(dest, offset, os.SEEK_SET)
    while block := os.read(source, _BLOCK):  # procfs and friends report size 0 to copy_file_range
        write_all(dest, block)


def write_all(fd: int, data: bytes) -> None:
    """Write all of some bytes, however little the kernel takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def copy_file(source: str, dest: str) -> None:
    """Copy the bytes of a regular file to a path that must not exist yet; a symlink at either end is refused."""
    src = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        dst = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            copy_data(src, dst)
        finally:
            os.close(dst)
    finally:
        os.close(src)


def sha256_file(path: str) -> str:
    """Return the sha256 of a file in hex."""
    h = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        while block := os.read(fd, _BLOCK):
            h.update(block)
    finally:
        os.close(fd)
    return h.hexdigest()


def read_xattrs(path: str) -> dict[str, bytes]:
    """Return a path's own extended attributes; none where the file system has none."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    out: dict[str, bytes] = {}
    for name in names:
        with contextlib.suppress(OSError):
            out[name] = os.getxattr(path, name, follow_symlinks=False)
    return out


def kept_xattrs(found: dict[str, bytes]) -> Xattrs:
    """Choose the attributes that belong to a file: not the kernel's bookkeeping, labels of this machine or container tools'."""
    return tuple(
        sorted(
            (name, base64.b64encode(value).decode())
            for name, value in found.items()
            if name == "security.capability" or (name.startswith("user.") and not name.startswith(("user.overlay.", "user.containers.")))
        )
    )


def set_attributes(path: str, e: Entry, *, tier: str, xattrs: bool = True) -> None:
    """Give a new path its owner, mode, attributes and time, in the order in which none undoes another.

    In tier single-uid owners stay ours on disk; in tier subuid an id beyond the mapped range does (EINVAL): the index knows.
    """
    link = e.kind == "l"
    if tier != "single-uid" and (e.uid or e.gid):
        try:
            os.lchown(path, e.uid, e.gid)
        except OSError as error:
            if tier == "root" or error.errno != errno.EINVAL:
                raise
    if not link:
        os.chmod(path, e.mode)
    if xattrs:
        for name, value in e.xattrs:
            with contextlib.suppress(OSError):  # ENOTSUP, EPERM: the index keeps them all the same
                os.setxattr(path, name, base64.b64decode(value), follow_symlinks=False)
    os.utime(path, (e.mtime, e.mtime), follow_symlinks=False)


def remove_tree(path: str | Path) -> None:
    """Remove a tree whatever its modes: overlayfs makes `work/work` with mode 000, which `rm -rf` cannot enter."""
    text = str(path)
    try:
        os.unlink(text)
    except IsADirectoryError:
        pass
    except PermissionError:
        if not stat.S_ISDIR(os.lstat(text).st_mode):
            raise
    except FileNotFoundError:
        return
    else:
        return
    _remove_below(text)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(text)


def discard(path: str | Path) -> None:
    """Remove a tree that a container wrote, and free its bytes at once.

    The kernel takes a container's mounts down a moment after its last process has ended, and until then keeps what was unlinked:
    on a full disk the next step would still find no room.
    """
    for here, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                _empty(f"{here}/{name}")
    remove_tree(path)


def _empty(path: str) -> None:
    """Truncate a regular file that has no other name; a file with several may belong to something that stays."""
    st = os.lstat(path)
    if stat.S_ISREG(st.st_mode) and st.st_nlink == 1 and st.st_blocks:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(fd)


def _remove_below(path: str) -> None:
    try:
        names = _list(path)
    except PermissionError:
        os.chmod(path, 0o700)
        names = _list(path)
    for name, is_dir in names:
        child = f"{path}/{name}"
        if is_dir:
            _remove_below(child)
            _forced(os.rmdir, child, path)
        else:
            _forced(os.unlink, child, path)


def _list(path: str) -> list[tuple[str, bool]]:
    with os.scandir(path) as it:
        return [(e.name, e.is_dir(follow_symlinks=False)) for e in it]


def _forced(remove: Callable[[str], None], child: str, parent: str) -> None:
    try:
        remove(child)
    except FileNotFoundError:
        pass
    except PermissionError:
        os.chmod(parent, 0o700)
        remove(child)


def syncfs(path: str | Path) -> None:
    """Flush the file system that holds a path: one call for a whole batch instead of an fsync per file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """Have a full or read-only disk reported as a StoreError; as a decorator of what writes to the cache. Other errors pass."""
    try:
        yield
    except OSError as e:
        cause = understood(e, doing)
        if cause is e:
            raise
        raise cause from e


def full(path: str | Path) -> str:
    """Say what to do when the file system that holds a path is full; "" when it is not."""
    st = os.statvfs(path)
    scarce = st.f_bavail * st.f_frsize < _SCARCE or (st.f_files > 0 and st.f_favail < 16)
    return f"no space left in the cache: {_HINTS[errno.ENOSPC]}" if scarce else ""


def understood(e: Exception, doing: str) -> Exception:
    """Turn the error of a full or read-only disk into a StoreError; give any other as it is."""
    return explain(e, doing) if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else e


def explain(e: OSError, doing: str, *, otherwise: str = "") -> StoreError:
    """Turn the errors of a cache directory that a user can cause into sentences; `otherwise` is the advice for all others."""
    words = {errno.ENOSPC: "no space left", errno.EROFS: "read-only file system"}.get(e.errno or 0, e.strerror or str(e))
    return StoreError(f"cannot {doing}: {words}" + (f" ({e.filename})" if e.filename else ""), hint=_HINTS.get(e.errno or 0, otherwise))
