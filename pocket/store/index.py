"""What a layer holds, as data: one `Entry` per path with its true owner, and the text form kept beside the layer.

The text is one JSON array per line in tree order (`a`, `a/b`, `a-b`: a directory and all below it lie together), so that a
single path is found in the mapped file by bisection and an exec never has to load the whole. The digest leaves modification
times out. Names that are not UTF-8 travel as surrogates.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring_ascii as _quote
from pathlib import Path
from typing import NamedTuple

from pocket.errors import StoreError, TreeError

Xattrs = tuple[tuple[str, str], ...]


class Entry(NamedTuple):
    """One path of a layer. Kinds: d f l c b p, and w for a whiteout."""

    kind: str
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    target: str = ""
    opaque: bool = False
    xattrs: Xattrs = ()


Index = dict[str, Entry]
WHITEOUT = Entry("w", 0)
_CHUNK = 2000


def clean(path: str, *, allow_up: bool = False) -> str:
    """Return a path relative to the root of a tree, "" for the root itself.

    The one place where paths from outside are judged: `.` and doubled slashes vanish, NUL is refused, and `..` may not
    leave the tree (with `allow_up` it stops at the root, as the kernel does).
    """
    if "\0" in path:
        raise TreeError(f"path contains a NUL byte: {path!r}")
    out: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if out:
                out.pop()
            elif not allow_up:
                raise TreeError(f"path escapes its directory: {path}")
        elif part not in ("", "."):
            out.append(part)
    return "/".join(out)


def parents(path: str) -> Iterator[str]:
    """Yield the directories above a path, "" first; nothing for the root."""
    if path:
        yield ""
        at = path.find("/")
        while at >= 0:
            yield path[:at]
            at = path.find("/", at + 1)


def join(parent: str, name: str) -> str:
    """Return a path below a directory, "" being the root."""
    return f"{parent}/{name}" if parent else name


def on_disk(root: str, path: str) -> str:
    """Return the place of a tree path below `root`, refusing what `clean` would not have produced."""
    if path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise TreeError(f"refusing the path {path!r}")
    return f"{root}/{path}" if path else root


def tree_key(path: str) -> str:
    """Return what paths are sorted by: NUL sorts before every character of a name."""
    return path.replace("/", "\0")


def line(path: str, e: Entry, *, mtime: bool = True) -> str:
    """Return the text of one entry; without `mtime` the form that is hashed."""
    return _both(path, e)[0 if mtime else 1]


def _both(path: str, e: Entry) -> tuple[str, str]:
    kind, mode, uid, gid, size, mtime, target, opaque, xattrs = e
    left = f'[{_quote(path)},"{kind}",{mode},{uid},{gid},{size},'
    right = f",{_quote(target)},{1 if opaque else 0},{json.dumps(xattrs) if xattrs else '[]'}]\n"
    return f"{left}{mtime}{right}", f"{left}0{right}"


def parse(row: str | bytes) -> tuple[str, Entry]:
    """Read one line back."""
    fields = json.loads(row)
    return fields[0], _entry(fields)


def _entry(r: list[object]) -> Entry:
    xattrs = tuple((k, v) for k, v in r[9]) if r[9] else ()  # type: ignore[attr-defined]
    return Entry(r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8] == 1, xattrs)  # type: ignore[arg-type]


def digest(index: Index) -> str:
    """Return the sha256 of an index, independent of modification times and of insertion order."""
    h = hashlib.sha256()
    for path in sorted(index, key=tree_key):
        h.update(line(path, index[path], mtime=False).encode())
    return h.hexdigest()


def write(path: Path, index: Index) -> str:
    """Write an index file and return its digest."""
    h = hashlib.sha256()
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        rows: list[str] = []
        hashed: list[str] = []
        for key in sorted(index, key=tree_key):
            row, bare = _both(key, index[key])
            rows.append(row)
            hashed.append(bare)
            if len(rows) >= _CHUNK:
                f.write("".join(rows))
                h.update("".join(hashed).encode())
                rows.clear()
                hashed.clear()
        f.write("".join(rows))
        h.update("".join(hashed).encode())
    return h.hexdigest()


def rows(path: Path) -> Iterator[tuple[str, Entry]]:
    """Stream an index file without holding it whole."""
    with open(path, "rb") as f:
        while chunk := list(_take(f, _CHUNK)):
            try:
                parsed = json.loads(b"[" + b",".join(chunk) + b"]")
            except ValueError as e:
                raise StoreError(f"the index {path} is damaged: {e}", hint="run `pocket prune --all` to start afresh") from e
            for r in parsed:
                yield r[0], _entry(r)


def _take(lines: Iterable[bytes], count: int) -> Iterator[bytes]:
    for i, row in enumerate(lines, 1):
        yield row
        if i == count:
            return


def load(path: Path) -> Index:
    """Read an index file whole."""
    return dict(rows(path))


class IndexFile:
    """An index file mapped into memory, for finding single paths."""

    __slots__ = ("_map",)

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)

    def get(self, path: str) -> Entry | None:
        """Return the entry of one path by bisection over lines."""
        data, low, high, wanted = self._map, 0, len(self._map), tree_key(path)
        while low < high:
            middle = (low + high) // 2
            start = data.rfind(b"\n", low, middle) + 1 or low
            end = data.find(b"\n", start) + 1 or len(data)
            name, entry = parse(data[start:end])
            if name == path:
                return entry
            if tree_key(name) < wanted:
                low = end
            else:
                high = start
        return None
