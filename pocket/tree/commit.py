"""Turn what a step wrote (an overlay's upper directory) into a layer that says only what changed.

Overlayfs records more than changes: directories copied up to hold a change below, files copied up and written back, opaque marks
on new directories, whiteouts of things that were never there. Each would make two equal results differ, so each is dropped.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pocket.errors import StoreError
from pocket.store import disk
from pocket.store.builder import publish
from pocket.store.index import WHITEOUT, Entry, Index, join
from pocket.store.layer import Layer, Snapshot
from pocket.tree.ownership import COPIED_UP, Ownership
from pocket.tree.view import Node, View

if TYPE_CHECKING:
    from pocket.store.store import Store


def commit(store: "Store", upper: Path, lower: Snapshot, *, drop: frozenset[str], ownership: Ownership) -> Layer | None:
    """Rename `upper` into the store as a layer on top of `lower`; None when nothing changed.

    `ownership` says who owns what where the disk cannot show it.
    """
    scan = _Scan(str(upper), View(lower), store.tier, frozenset(p.strip("/") for p in drop), ownership)
    changed = scan.root()
    if not changed:
        disk.remove_tree(upper)
        return None
    if not scan.true_owners:
        ownership.adopt(scan.index, scan.view, str(upper))
    home = store.tmp()
    os.rename(upper, home / "fs")
    index = {path: scan.index[path] for path in sorted(scan.index)}
    return publish(store, home, index)


class _Scan:
    """One walk over an upper directory; it cleans the disk and collects the index as it goes."""

    def __init__(self, upper: str, view: View, tier: str, drop: frozenset[str], ownership: Ownership) -> None:
        self.upper, self.view, self.drop, self.ownership = upper, view, drop, ownership
        self.true_owners = tier != "single-uid"
        self.opaque_name = disk.OPAQUE[tier]
        self.index: Index = {}

    def root(self) -> bool:
        st = os.lstat(self.upper)
        below = self.view.root()
        entry, _ = self._describe("", self.upper, st, below)
        lower = below.entry._replace(opaque=False)
        kept = self._children("", self.upper, st, hidden=entry.opaque)
        same = not entry.opaque and _alike(entry, lower) and below.layer is not None
        if not kept and (same or (below.layer is None and _alike(entry, Entry("d", 0o755)))):
            return False
        self.index[""] = entry._replace(opaque=False, mtime=int(os.lstat(self.upper).st_mtime))
        return True

    def _children(self, path: str, place: str, st: os.stat_result, *, hidden: bool) -> int:
        """Take in what a directory holds; return how many changes it contains."""
        kept = stubs = 0
        with os.scandir(place) as it:
            found = sorted(it, key=lambda e: e.name)
        for item in found:
            child = join(path, item.name)
            if self._one(child, item.path, item.stat(follow_symlinks=False), hidden=hidden):
                kept += 1
            elif child in self.drop:
                stubs += 1
        self._restore_time(path, place, st, stubs_only=bool(stubs) and not kept)
        return kept

    def _one(self, path: str, place: str, st: os.stat_result, *, hidden: bool) -> bool:
        below = None if hidden else self.view.get(path)
        if stat.S_ISDIR(st.st_mode):
            return self._directory(path, place, st, below)
        if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
            return self._whiteout(path, place, below)
        if stat.S_ISSOCK(st.st_mode):
            os.unlink(place)
            return False
        entry, _ = self._describe(path, place, st, below)
        if path in self.drop and entry.kind == "f" and entry.size == 0:
            os.unlink(place)
            return False
        if device := self.ownership.device(place, st):
            os.unlink(place)  # as for a device of a pulled image, the index alone knows it
            self.index[path] = entry._replace(kind=device[0], target=device[1:])
            return True
        if below is not None and self._unchanged(entry, place, below):
            os.unlink(place)
            return False
        if entry.kind == "f":
            entry = entry._replace(target=disk.sha256_file(place))
        self.index[path] = entry
        return True

    def _whiteout(self, path: str, place: str, below: Node | None) -> bool:
        if below is None:
            os.unlink(place)
            return False
        self.index[path] = WHITEOUT
        return True

    def _directory(self, path: str, place: str, st: os.stat_result, below: Node | None) -> bool:
        entry, marked = self._describe(path, place, st, below)
        merged = below is not None and below.is_dir
        if marked and not merged:
            with contextlib.suppress(OSError):
                os.removexattr(place, self.opaque_name, follow_symlinks=False)
        entry = entry._replace(opaque=marked and merged)
        kept = self._children(path, place, st, hidden=entry.opaque or not merged)
        if not kept and not entry.opaque:
            same = merged and below is not None and _alike(entry, below.entry)
            if same or (below is None and path in self.drop):
                os.rmdir(place)
                return False
        self.index[path] = entry._replace(mtime=int(os.lstat(place).st_mtime))
        return True

    def _describe(self, path: str, place: str, st: os.stat_result, below: Node | None) -> tuple[Entry, bool]:
        """Return the entry without content digest, and whether the directory is marked opaque."""
        xattrs = disk.read_xattrs(place)
        copied = COPIED_UP in xattrs
        for name in xattrs:
            if ".overlay." in name and name != self.opaque_name and name.startswith(("trusted.", "user.")):
                if name.endswith((".redirect", ".metacopy")):
                    raise StoreError(f"{path} depends on an overlayfs feature that must be off ({name})", hint="this is a bug in pocket")
                with contextlib.suppress(OSError):
                    os.removexattr(place, name, follow_symlinks=False)
        target, size = "", 0
        if stat.S_ISLNK(st.st_mode):
            kind, target = "l", os.readlink(place)
        elif stat.S_ISDIR(st.st_mode):
            kind = "d"
        elif stat.S_ISREG(st.st_mode):
            kind, size = "f", st.st_size
        elif stat.S_ISFIFO(st.st_mode):
            kind = "p"
        else:
            kind = "c" if stat.S_ISCHR(st.st_mode) else "b"
            target = f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"
        uid, gid = st.st_uid, st.st_gid
        if not self.true_owners:
            uid, gid = self.ownership.of(path, place, st, self.view, below, copied=copied, link=target if kind == "l" else "")
        entry = Entry(kind, stat.S_IMODE(st.st_mode), uid, gid, size, int(st.st_mtime), target, False, disk.kept_xattrs(xattrs))
        return entry, xattrs.get(self.opaque_name) == b"y"

    def _unchanged(self, entry: Entry, place: str, below: Node) -> bool:
        old = below.entry
        if entry.kind != old.kind or entry.mtime != old.mtime or entry.size != old.size or not _alike(entry, old):
            return False
        if entry.kind == "f":
            return disk.sha256_file(place) == old.target
        return entry.target == old.target

    def _restore_time(self, path: str, place: str, st: os.stat_result, *, stubs_only: bool) -> None:
        """Undo what our cleaning, or the making of mount stubs, did to a directory's time: layers must be reproducible."""
        below = self.view.get(path) if stubs_only else None
        if below is not None:
            os.utime(place, (below.entry.mtime, below.entry.mtime))
        elif os.lstat(place).st_mtime_ns != st.st_mtime_ns:
            os.utime(place, ns=(st.st_atime_ns, st.st_mtime_ns))


def _alike(a: Entry, b: Entry) -> bool:
    """Compare attributes, not content and not time."""
    return (a.kind, a.mode, a.uid, a.gid, a.xattrs) == (b.kind, b.mode, b.uid, b.gid, b.xattrs)
