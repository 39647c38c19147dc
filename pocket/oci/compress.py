"""Compression of layers: what is written does not depend on time, names, or the number of processors.

gzip is made of blocks of one MiB that are deflated side by side, each with the end of its predecessor as dictionary, as pigz
does it; the result is one ordinary gzip member. A block of which samples do not shrink (weights, archives, media) is stored as it is:
deflate would take fifty times as long to find nothing. The bytes still depend on the zlib that made them, which is why the diff id
and never the compressed digest is an identity in a cache. Reading takes `isal` when it is installed (twice as fast); zstd needs
the package `zstandard`.
"""

import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, Literal, cast

from pocket.errors import PocketError

Compression = Literal["gzip", "zstd", "none"]
BLOCK = 1 << 20
_READ = 1 << 18  # small, because a multi-member gzip (eStargz) copies what is left after each member
_WINDOW = 1 << 15
_ZSTD_WINDOW = 1 << 27  # bytes; what `zstd --long=27` needs, and the most that a hostile stream may make us allocate
_SAMPLE, _SAMPLES = 1 << 10, 4  # bytes and number of the pieces of a block that are tried
_STORED = 0xFFFF
_WORTH = 0.97  # a block whose samples shrink less is stored
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no name, no time, unknown system


class CompressionError(PocketError):
    """A stream that cannot be decompressed, or a compression that is not available here."""


class Compressor:
    """Takes blocks, hands out compressed blocks in order. Call `finish` once at the end."""

    def add(self, block: bytes) -> Iterator[bytes]:
        """Take a block; yield what is ready."""
        yield block

    def finish(self) -> Iterator[bytes]:
        """Yield the rest."""
        return iter(())


def compressor(kind: Compression, pool: ThreadPoolExecutor, *, level: int | None = None) -> Compressor:
    """Return a compressor; zlib's fastest level and zstd 3 unless told otherwise."""
    if kind == "gzip":
        return _Gzip(pool, 1 if level is None else level)
    if kind == "zstd":
        return _Zstd(3 if level is None else level)
    return Compressor()


class _Gzip(Compressor):
    def __init__(self, pool: ThreadPoolExecutor, level: int) -> None:
        self._pool, self._level = pool, level
        self._jobs: deque[Future[bytes]] = deque()
        self._ahead = 2 * (os.cpu_count() or 1)
        self._dictionary = b""
        self._crc = self._size = 0
        self._crc32 = _crc32()
        self._started = False

    def add(self, block: bytes) -> Iterator[bytes]:
        if not self._started:
            self._started = True
            yield _GZIP_HEADER
        self._jobs.append(self._pool.submit(self._deflate, block, self._dictionary))
        self._dictionary = block[-_WINDOW:]
        self._crc = self._crc32(block, self._crc)
        self._size += len(block)
        while len(self._jobs) > self._ahead or (self._jobs and self._jobs[0].done()):
            yield self._jobs.popleft().result()

    def finish(self) -> Iterator[bytes]:
        if not self._started:
            yield _GZIP_HEADER
        while self._jobs:
            yield self._jobs.popleft().result()
        yield b"\x03\0" + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF)  # an empty last block, then the trailer

    def _deflate(self, block: bytes, dictionary: bytes) -> bytes:
        if not _shrinks(block):
            return _stored(block)
        if dictionary:
            job = zlib.compressobj(self._level, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, dictionary)
        else:
            job = zlib.compressobj(self._level, zlib.DEFLATED, -15, 8)
        return job.compress(block) + job.flush(zlib.Z_SYNC_FLUSH)


def _shrinks(block: bytes) -> bool:
    """Say whether deflating a block is worth the time, by pieces from all over it; a short block always is."""
    step = len(block) // _SAMPLES
    if step < 4 * _SAMPLE:
        return True
    return shrinks(b"".join(block[at : at + _SAMPLE] for at in range(0, step * _SAMPLES, step)))


def shrinks(sample: bytes) -> bool:
    """Say whether what a sample was taken from is worth compressing."""
    return len(zlib.compress(sample, 1)) < _WORTH * len(sample)


def _stored(block: bytes) -> bytes:
    """Return a block in deflate's stored form: pieces of at most 65535 bytes, each with its length and the complement of that."""
    view, parts = memoryview(block), list[bytes | memoryview]()
    for at in range(0, len(block), _STORED):
        piece = view[at : at + _STORED]
        parts += (struct.pack("<BHH", 0, len(piece), len(piece) ^ _STORED), piece)
    return b"".join(parts)


class _Zstd(Compressor):
    def __init__(self, level: int) -> None:
        # One worker thread: the output of zstd is the same for every number of workers but zero.
        self._job = _zstandard().ZstdCompressor(level=level, threads=1, write_checksum=True).compressobj()

    def add(self, block: bytes) -> Iterator[bytes]:
        yield self._job.compress(block)

    def finish(self) -> Iterator[bytes]:
        yield self._job.flush()


def decompressed(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the plain content of a gzip, zstd or plain stream in blocks of at most one MiB; the kind is found by its magic."""
    head = _read(stream, _READ)
    if head[:2] == b"\x1f\x8b":
        return _gunzip(stream, head)
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return _unzstd(stream, head)
    for magic, name in ((b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz")):
        if head.startswith(magic):
            raise CompressionError(f"a layer is compressed with {name}", hint="push the image again with gzip or zstd layers")
    return _plain(stream, head)


def _plain(stream: BinaryIO, head: bytes) -> Iterator[bytes]:
    while head:
        yield head
        head = stream.read(BLOCK)


def _gunzip(stream: BinaryIO, data: bytes) -> Iterator[bytes]:
    new = _inflater()
    job = new()
    try:
        while True:
            data = data or stream.read(_READ)
            if out := job.decompress(data, BLOCK):
                yield out
            elif not data and not job.eof:
                raise _broken("gzip", "it ends early")
            if not job.eof:
                data = job.unconsumed_tail
                continue
            data = job.unused_data or stream.read(_READ)
            while data and not data.strip(b"\0"):  # zeros after the last member are padding
                data = stream.read(_READ)
            if not data:
                return
            job = new()
    except (zlib.error, ValueError) as e:
        raise _broken("gzip", e) from e
    except Exception as e:
        if type(e).__name__ == "IsalError":
            raise _broken("gzip", e) from e
        raise


def _unzstd(stream: BinaryIO, head: bytes) -> Iterator[bytes]:
    zstd = _zstandard()
    job = zstd.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        with job.stream_reader(_Joined(head, stream), read_size=_READ, read_across_frames=True, closefd=False) as reader:
            while block := reader.read(BLOCK):
                yield block
    except zstd.ZstdError as e:
        raise _broken("zstd", e) from e


class _Joined:
    """A stream whose first bytes were already read."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        head, self._head = self._head, b""
        return head or self._rest.read(size)


def _broken(kind: str, why: object) -> CompressionError:
    return CompressionError(f"a layer is not valid {kind}: {why}", hint="it was damaged on its way; remove it and fetch it again")


def _crc32() -> Callable[[bytes, int], int]:
    """Return the fastest crc32 here; the number is the same."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    return cast("Callable[[bytes, int], int]", isal_zlib.crc32)


def _inflater() -> Callable[[], Any]:
    try:
        from isal import isal_zlib
    except ImportError:
        return lambda: zlib.decompressobj(31)
    return lambda: isal_zlib.decompressobj(31)


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as e:
        raise CompressionError("zstd is not available", hint="pip install zstandard, or use gzip") from e
    return zstandard


def _read(stream: BinaryIO, size: int) -> bytes:
    """Read up to `size` bytes, at least enough for a magic number even from a stream that answers in drops."""
    data = stream.read(size)
    while data and len(data) < 8 and (more := stream.read(size)):
        data += more
    return data
