"""Making files, links and directories of a layer on disk, with their attributes in the order that the kernel needs.

chown clears set-id bits and `security.capability`, so the order is owner, mode, extended attributes, times. What a file system
or tier refuses (an owner that is not mapped, an attribute) is noted once and stays true in the index.
"""

import base64
import errno
import hashlib
import os
import stat
from pathlib import Path

from pocket.oci import digest as dg
from pocket.oci.confine import Root
from pocket.oci.tarheader import Member
from pocket.oci.tarread import TarReader
from pocket.store.index import Entry

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REFUSED = (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ENOSPC, errno.E2BIG, errno.ERANGE)
_ZEROS = bytes(1 << 20)


class Nodes:
    """Creates the nodes below a root. A place is always free when a method is called: O_EXCL makes sure."""

    def __init__(self, root: Root, *, chown: bool, opaque_xattr: str) -> None:
        self._root, self._chown, self._opaque_xattr = root, chown, opaque_xattr
        self.notes: dict[str, None] = {}
        self._noted: set[object] = set()

    def note(self, text: str, *, key: object = None) -> None:
        """Keep a remark; of several with the same key only the first."""
        if key is None or key not in self._noted:
            self._noted.add(key)
            if len(self.notes) < 100:
                self.notes[text] = None

    def create(self, path: str) -> int:
        """Create an empty file and return a descriptor for writing."""
        at, name = self._place(path)
        return os.open(name, _NEW, 0o600, dir_fd=at)

    def write(self, fd: int, tar: TarReader, m: Member) -> str:
        """Write the content of a member, holes as holes, and return its sha256 (hex)."""
        content = hashlib.sha256()
        if m.segments is None:
            for piece in tar.data():
                content.update(piece)
                _write_all(fd, piece)
            return content.hexdigest()
        data = tar.data()
        piece = memoryview(b"")
        at = 0
        for offset, size in m.segments:
            _hash_zeros(content, offset - at)
            os.lseek(fd, offset, os.SEEK_SET)
            at, left = offset + size, size
            while left:
                piece = piece or next(data)
                part, piece = piece[:left], piece[left:]
                content.update(part)
                _write_all(fd, part)
                left -= len(part)
        _hash_zeros(content, m.length - at)
        os.ftruncate(fd, m.length)
        return content.hexdigest()

    def settle(self, fd: int, e: Entry, path: str) -> None:
        """Give an open file or directory its attributes."""
        if self._chown and (e.uid or e.gid):
            self._owner(fd, e, path)
        os.fchmod(fd, e.mode)
        for name, value in e.xattrs:
            try:
                os.setxattr(fd, name, base64.b64decode(value))
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self.note(f"{path}: the attribute {name} is kept as metadata only ({error.strerror})", key=(name, error.errno))
        os.utime(fd, ns=(e.mtime * 10**9, e.mtime * 10**9))

    def settle_directory(self, path: str, e: Entry) -> None:
        """Give a directory its attributes, the opaque mark included."""
        fd = self._root.dir(path)
        if e.opaque:
            os.setxattr(fd, self._opaque_xattr, b"y")
        self.settle(fd, e, path)

    def symlink(self, path: str, e: Entry) -> None:
        """Make a symbolic link; where it points is nobody's business here."""
        at, name = self._place(path)
        os.symlink(e.target, name, dir_fd=at)
        self._attributes(at, name, e, path)

    def fifo(self, path: str, e: Entry) -> None:
        """Make a named pipe."""
        at, name = self._place(path)
        os.mkfifo(name, 0o600, dir_fd=at)
        self._attributes(at, name, e, path)

    def whiteout(self, path: str) -> None:
        """Make a whiteout of overlayfs, which since Linux 5.8 needs no privilege."""
        at, name = self._place(path)
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=at)

    def link(self, source: str, path: str) -> None:
        """Make a hard link between two places of this layer."""
        at, name = self._place(path)
        from_at, from_name = self._place(source)
        os.link(from_name, name, src_dir_fd=from_at, dst_dir_fd=at, follow_symlinks=False)

    def copy(self, source: Path, path: str, e: Entry) -> None:
        """Copy a file of a lower layer, which must still be what its entry says."""
        content = hashlib.sha256()
        fd = self.create(path)
        try:
            with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as f:
                while block := f.read(1 << 20):
                    content.update(block)
                    _write_all(fd, memoryview(block))
            dg.expect(f"the file {path} of a lower layer", want=f"sha256:{e.target}", got=f"sha256:{content.hexdigest()}")
            self.settle(fd, e, path)
        finally:
            os.close(fd)

    def _place(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rpartition("/")
        return self._root.dir(parent), name

    def _owner(self, fd: int, e: Entry, path: str) -> None:
        try:
            os.fchown(fd, e.uid, e.gid)
        except OSError as error:
            self._unmapped(error, e, path)

    def _attributes(self, at: int, name: str, e: Entry, path: str) -> None:
        """Give a node that cannot be opened its attributes."""
        if self._chown and (e.uid or e.gid):
            try:
                os.chown(name, e.uid, e.gid, dir_fd=at, follow_symlinks=False)
            except OSError as error:
                self._unmapped(error, e, path)
        if e.kind == "p":
            os.chmod(name, e.mode, dir_fd=at)
        os.utime(name, ns=(e.mtime * 10**9, e.mtime * 10**9), dir_fd=at, follow_symlinks=False)

    def _unmapped(self, error: OSError, e: Entry, path: str) -> None:
        """Note an owner outside the range of the user namespace (EINVAL); anything else is an error."""
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.EOVERFLOW):
            raise error
        self.note(f"{path}: the owner {e.uid}:{e.gid} is kept as metadata only ({error.strerror})", key=("owner", error.errno))


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _hash_zeros(content: "hashlib._Hash", size: int) -> None:
    while size > 0:
        content.update(memoryview(_ZEROS)[:size])
        size -= len(_ZEROS)
