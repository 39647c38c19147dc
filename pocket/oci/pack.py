"""Packing a layer: an index and its files become a tar stream whose bytes depend on the index alone.

Members are sorted bytewise, times are whole seconds (clamped on request), names of users and groups are empty, whiteouts and
opaque directories take their `.wh.` form, and files that share an inode stay hard links. One pass yields diff id, digest and
size; hashing and compressing run beside reading.
"""

import base64
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from pocket.errors import PocketError
from pocket.oci import tarwrite as tw
from pocket.oci.compress import BLOCK, Compression, Compressor, compressor
from pocket.store.index import Entry, Index

Opener = Callable[[str], BinaryIO | Path]


class Writable(Protocol):
    """Where a layer is written to."""

    def write(self, data: bytes | memoryview, /) -> int | None:
        """Take bytes, perhaps not all of them; return how many."""


OPAQUE = ".wh..wh..opq"
WHITEOUT = ".wh."
_DEVICES = {"c": tw.CHAR, "b": tw.BLOCKDEV}


class PackError(PocketError):
    """A tree that cannot be written as a layer."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The digest of the plain tar stream, the digest of what was written, and the size of that in bytes."""

    diff_id: str
    digest: str
    size: int


def pack_layer(
    index: Index,
    open_file: Opener,
    out: Writable,
    *,
    compression: Compression = "gzip",
    level: int | None = None,
    latest: int | None = None,
) -> Packed:
    """Write the layer that `index` describes to `out`.

    `open_file` gives for each file its path on disk or an open file. `latest` clamps modification times (SOURCE_DATE_EPOCH).
    Raises PackError when a file has another size than its entry, or a name that means something else in a layer.
    """
    with ThreadPoolExecutor(os.cpu_count() or 1, "compress", _yielding) as pool, _Hash() as diff, _Hash() as digest:
        sink = _Sink(out, compressor(compression, pool, level=level), diff, None if compression == "none" else digest)
        links: dict[tuple[int, int, Entry], bytes] = {}
        for path in sorted(index, key=os.fsencode):
            entry = index[path]
            if latest is not None and entry.mtime > latest:
                entry = entry._replace(mtime=latest)
            if entry.kind == "f":
                _file(sink, path, entry, open_file, links)
            elif path or entry != _DEFAULT_ROOT._replace(mtime=entry.mtime):
                for block in _headers(path, entry):
                    sink.write(block)
            elif entry.opaque:
                sink.write(_opaque(path, entry))
        return sink.finish()


# The root directory that every engine makes by itself; a layer says nothing about it unless it differs.
_DEFAULT_ROOT = Entry("d", 0o755)


def _headers(path: str, e: Entry) -> Iterator[bytes]:
    """Yield the headers of everything that has no content."""
    name = _name(path)
    if e.kind == "d":
        yield _header(name + b"/" if path else b"./", e, tw.DIRECTORY)
        if e.opaque:
            yield _opaque(path, e)
    elif e.kind == "w":
        parent, _, last = name.rpartition(b"/")
        yield tw.header(b"/".join(filter(None, (parent, WHITEOUT.encode() + last))), kind=tw.FILE, mtime=e.mtime)
    elif e.kind == "l":
        yield _header(name, e._replace(mode=0o777), tw.SYMLINK, link=os.fsencode(e.target))
    elif e.kind == "p":
        yield _header(name, e, tw.FIFO)
    elif e.kind in _DEVICES:
        major, _, minor = e.target.partition(":")
        yield _header(name, e, _DEVICES[e.kind], device=(int(major), int(minor)))
    else:
        raise PackError(f"{path}: an entry of the unknown kind {e.kind!r}")


def _opaque(path: str, e: Entry) -> bytes:
    return tw.header(os.fsencode(f"{path}/{OPAQUE}" if path else OPAQUE), kind=tw.FILE, mtime=e.mtime)


def _name(path: str) -> bytes:
    if path.startswith(WHITEOUT) or f"/{WHITEOUT}" in path:
        raise PackError(f"{path}: names that begin with {WHITEOUT!r} mean a deletion in an image layer", hint="rename or exclude this file")
    return os.fsencode(path)


def _header(name: bytes, e: Entry, kind: bytes, *, link: bytes = b"", device: tuple[int, int] = (0, 0), size: int = 0) -> bytes:
    xattrs = tuple((k, base64.b64decode(v)) for k, v in e.xattrs)
    return tw.header(name, kind=kind, mode=e.mode, uid=e.uid, gid=e.gid, size=size, mtime=e.mtime, link=link, device=device, xattrs=xattrs)


def _file(sink: "_Sink", path: str, e: Entry, open_file: Opener, links: dict[tuple[int, int, Entry], bytes]) -> None:
    """Write one regular file, as a hard link when its inode was written before with the same attributes."""
    name = _name(path)
    source = open_file(path)
    if isinstance(source, Path):
        source = os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)
    with source:
        try:
            stat = os.fstat(source.fileno())
        except (AttributeError, OSError):  # not a file of the kernel
            stat = None
        if stat and stat.st_nlink > 1 and (first := links.setdefault((stat.st_dev, stat.st_ino, e), name)) is not name:
            sink.write(_header(name, e, tw.HARDLINK, link=first))
            return
        sink.write(_header(name, e, tw.FILE, size=e.size))
        left = e.size
        while left and (block := source.read(min(left, BLOCK))):
            sink.write(block)
            left -= len(block)
        if left or (stat.st_size != e.size if stat else source.read(1)):
            raise PackError(
                f"{path} does not have the {e.size} bytes that its entry says", hint="the tree changed while it was packed; run again"
            )
    sink.write(tw.padding(e.size))


def _yielding() -> None:
    """Let whoever waits for what is packed go first, an upload above all: on few cores that decides how long the whole takes."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


class _Hash:
    """A digest that is computed in a thread of its own, in order; at most two blocks wait for it."""

    def __init__(self) -> None:
        self._hash, self._thread = hashlib.sha256(), ThreadPoolExecutor(1, "hash", _yielding)
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def update(self, block: bytes) -> None:
        before, self._last = self._last, self._thread.submit(self._hash.update, block)
        if before:
            before.result()

    def finish(self) -> str:
        """Wait for the rest and give the digest."""
        if self._last:
            self._last.result()
        return f"sha256:{self._hash.hexdigest()}"


class _Sink:
    """Gathers small writes into blocks, and hashes and compresses those off the main thread, in order."""

    def __init__(self, out: Writable, compressor: Compressor, diff: _Hash, digest: _Hash | None) -> None:
        self._out, self._compressor, self._diff, self._digest = out, compressor, diff, digest
        self._parts: list[bytes] = []
        self._held = self._size = 0

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)
        if self._held >= BLOCK:
            self._flush()

    def finish(self) -> Packed:
        self.write(tw.END)
        self._flush()
        for block in self._compressor.finish():
            self._emit(block)
        diff_id = self._diff.finish()
        return Packed(diff_id, self._digest.finish() if self._digest else diff_id, self._size)

    def _flush(self) -> None:
        block = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self._held = [], 0
        self._diff.update(block)
        for ready in self._compressor.add(block):
            self._emit(ready)

    def _emit(self, block: bytes) -> None:
        if self._digest:
            self._digest.update(block)
        self._size += len(block)
        view = memoryview(block)
        while view:  # an unbuffered file may take less than all
            view = view[self._out.write(view) or len(view) :]
