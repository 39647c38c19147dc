"""Build one layer path by path. Nothing is visible in the store before `finish`, which is a rename.

Directories get their modes and times last, deepest first: a child's creation would change the time, and a mode without w or x
would refuse the child.
"""

import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import IO, Protocol

from pocket.errors import StoreError
from pocket.store import disk
from pocket.store import index as ix
from pocket.store.index import WHITEOUT, Entry, Index
from pocket.store.layer import Layer, remember

_BLOCK = 1 << 20
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_told = disk.told("write to the cache")


class Shelf(Protocol):
    """What a builder needs of the store."""

    tier: str
    boot: str
    layers_dir: Path

    def reserve(self) -> str:
        """Return a fresh layer id that no collection will touch."""
        ...

    def adopt(self, layer: Layer) -> Layer:
        """Take note of a layer that is in the store now."""
        ...


class LayerBuilder:
    """A layer in the making, below a temporary directory of the session."""

    def __init__(self, shelf: "Shelf", home: Path) -> None:
        self._shelf, self.home, self._tier = shelf, home, shelf.tier
        self.fs = str(home / "fs")
        self.entries: Index = {"": Entry("d", 0o755)}
        os.mkdir(self.fs, 0o755)

    def place(self, path: str) -> str:
        """Return where a path lies on disk, after making the directories above it."""
        for parent in ix.parents(path):
            if parent not in self.entries:
                self.mkdir(parent)
        return ix.on_disk(self.fs, path)

    @_told
    def mkdir(self, path: str, entry: Entry | None = None) -> None:
        """Add a directory, or change the attributes of one already added."""
        old = self.entries.get(path)
        if old is None:
            os.mkdir(self.place(path), 0o755)
        elif old.kind != "d":
            raise StoreError(f"{path} is already in the layer and is no directory")
        self.entries[path] = entry or old or Entry("d", 0o755, mtime=int(time.time()))

    @_told
    def write(self, path: str, data: bytes | IO[bytes], entry: Entry) -> None:
        """Add a file; size and content digest of the entry are filled in."""
        place = self.place(path)
        h, size = hashlib.sha256(), 0
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            blocks = (data,) if isinstance(data, bytes) else iter(lambda: data.read(_BLOCK), b"")
            for block in blocks:
                h.update(block)
                size += len(block)
                disk.write_all(fd, block)
        finally:
            os.close(fd)
        self._done(path, place, entry._replace(kind="f", size=size, target=h.hexdigest()))

    @_told
    def add_file(self, path: str, src: Path | str, entry: Entry, *, link: bool = True) -> None:
        """Add a file that the store already holds, with its known digest in `entry`.

        `link` shares the inode: only right when mode, owner, time and attributes on disk are those of `entry`.
        """
        place = self.place(path)
        if link:
            try:
                os.link(src, place, follow_symlinks=False)
            except FileNotFoundError:
                raise
            except OSError:  # EMLINK (65000 on ext4), EPERM by fs.protected_hardlinks, EXDEV
                pass
            else:
                self.entries[path] = entry
                return
        disk.copy_file(str(src), place)
        self._done(path, place, entry)

    @_told
    def symlink(self, path: str, target: str, entry: Entry | None = None) -> None:
        """Add a symlink; its target is not looked at."""
        place = self.place(path)
        os.symlink(target, place)
        self._done(path, place, (entry or Entry("l", 0o777, mtime=int(time.time())))._replace(kind="l", target=target))

    @_told
    def whiteout(self, path: str) -> None:
        """Hide what lower layers have at a path."""
        os.mknod(self.place(path), stat.S_IFCHR, os.makedev(0, 0))
        self.entries[path] = WHITEOUT

    def opaque(self, path: str) -> None:
        """Hide what lower layers have in a directory that was added before."""
        os.setxattr(ix.on_disk(self.fs, path), disk.OPAQUE[self._tier], b"y")
        self.entries[path] = self.entries[path]._replace(opaque=True)

    def special(self, path: str, entry: Entry) -> None:
        """Add a fifo, or note a device: real device nodes are never made, the index alone knows them."""
        place = self.place(path)
        if entry.kind == "p":
            os.mkfifo(place, 0o600)
            self._done(path, place, entry)
        else:
            self.entries[path] = entry

    def add(self, path: str, entry: Entry, src: Path | str | None = None, *, link: bool = True) -> None:
        """Add a path of any kind as its entry describes it."""
        if entry.kind == "d":
            self.mkdir(path, entry._replace(opaque=False))
            if entry.opaque:
                self.opaque(path)
        elif entry.kind == "f":
            if src is None:
                raise StoreError(f"no source given for the file {path}")
            self.add_file(path, src, entry, link=link)
        elif entry.kind == "l":
            self.symlink(path, entry.target, entry)
        elif entry.kind == "w":
            self.whiteout(path)
        else:
            self.special(path, entry)

    @_told
    def adopt_content(self, source: Layer, dest: str) -> None:
        """Add all that a layer holds below a directory that was added before."""
        root = f"{dest}/" if dest else ""
        there, here = os.open(source.path, _FOLDER), os.open(ix.on_disk(self.fs, dest), _FOLDER)
        try:
            for path, e in source.rows():
                if e.kind == "f":
                    try:  # relative to descriptors: no long path to walk twice for each of 100,000 files
                        os.link(path, path, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
                    except OSError:
                        self.add_file(root + path, f"{source.path}/{path}", e)
                    else:
                        self.entries[root + path] = e
                elif path:
                    self.add(root + path, e)
        finally:
            os.close(there)
            os.close(here)

    def _done(self, path: str, place: str, entry: Entry) -> None:
        disk.set_attributes(place, entry, tier=self._tier)
        self.entries[path] = entry

    @_told
    def finish(self) -> Layer:
        """Put the layer into the store and return it."""
        self.seal_directories()
        return publish(self._shelf, self.home, self.entries)

    def seal_directories(self) -> None:
        """Give all directories their attributes; nothing may be added afterwards."""
        for path in sorted((p for p, e in self.entries.items() if e.kind == "d"), reverse=True):
            disk.set_attributes(ix.on_disk(self.fs, path), self.entries[path], tier=self._tier)

    @_told
    def finish_moved(self, source: Layer, prefix: str) -> Layer:
        """Like `finish`, for a builder whose content below `prefix` is exactly that of `source`: shares its index file."""
        self.seal_directories()
        extra = tuple((p, self.entries[p]) for p in sorted((*ix.parents(prefix), prefix)))
        os.link(source.home / "index.json", self.home / "index.json")
        h = hashlib.sha256(f"moved {source.digest} {prefix!a}\n".encode())
        h.update("".join(ix.line(p, e, mtime=False) for p, e in extra).encode())
        meta = {
            "digest": h.hexdigest(),
            "bytes": source.bytes,
            "files": source.files,
            "entries": source.entries + len(extra) - 1,
            "hides": source.hides,
            "prefix": prefix,
            "extra": [ix.line(p, e) for p, e in extra],
        }
        return _publish(self._shelf, self.home, meta)


def publish(shelf: "Shelf", home: Path, index: Index) -> Layer:
    """Write index and meta data beside `home/fs` and rename the whole into the store."""
    digest = ix.write(home / "index.json", index)
    files = [e.size for e in index.values() if e.kind == "f"]
    hides = sum(1 for e in index.values() if e.kind == "w" or e.opaque)
    layer = _publish(shelf, home, {"digest": digest, "bytes": sum(files), "files": len(files), "entries": len(index), "hides": hides})
    remember(layer, index)
    return layer


def _publish(shelf: "Shelf", home: Path, meta: dict[str, object]) -> Layer:
    (home / "meta.json").write_text(json.dumps(meta | {"boot": shelf.boot, "time": time.time()}))
    while True:
        final = shelf.layers_dir / shelf.reserve()
        try:
            os.rename(home, final)
        except OSError as e:
            if not final.exists():
                raise disk.explain(e, "add a layer to the cache") from e
        else:
            return shelf.adopt(Layer.load(final))
