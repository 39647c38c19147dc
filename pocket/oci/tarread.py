"""Reading a layer as a stream of tar members: decompression, the diff id, headers, PAX and GNU extensions, sparse maps.

A parser only: it touches no file. Everything comes from strangers, so every size is checked against `Limits` before memory or
time is spent on it. Decompression and the hash of the whole run on a thread of their own, a few blocks ahead.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO, Self

from pocket.oci.compress import decompressed
from pocket.oci.sparse import old_entries, pairs, pax_entries
from pocket.oci.tarheader import LayerError, Limits, Member, check, checked_name, integer, member, number, records

BLOCK = 512
_AHEAD = 3  # blocks of one MiB that may wait for the parser
_ZERO = bytes(BLOCK)
_NO_DATA = frozenset(b"123456")  # links, devices, directories and fifos carry no content, whatever their size says


class TarReader:
    """Iterate over the members; `data` yields the content of the one that was handed out last."""

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        self._chunks = decompressed(stream)
        self._limits = limits
        self._hash = hashlib.sha256()
        self._worker = ThreadPoolExecutor(1, "layer")
        self._pending: deque[Future[bytes]] = deque(self._worker.submit(self._next) for _ in range(_AHEAD))
        self._buffer, self._at = b"", 0
        self._left = self._pad = 0  # of the current member
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Member]:
        count = 0
        while (block := self._header()) is not None:
            count += 1
            if count > self._limits.members:
                raise LayerError(f"a layer has more than {self._limits.members} entries", hint="it looks like an attack; check its source")
            found = self._member(block)
            if found is not None:
                yield found
            self._skip(self._left + self._pad)
            self._left = self._pad = 0

    def data(self) -> Iterator[memoryview]:
        """Yield what is left of the stored content, without copying it."""
        while self._left:
            if self._at == len(self._buffer):
                self._fill()
            piece = memoryview(self._buffer)[self._at : self._at + self._left]
            self._at += len(piece)
            self._left -= len(piece)
            yield piece

    def finish(self) -> str:
        """Read to the very end and return the diff id; padding after the last member counts."""
        while self._fill(end=True):
            self._at = len(self._buffer)
        return f"sha256:{self._hash.hexdigest()}"

    def _next(self) -> bytes:
        chunk = next(self._chunks, b"")
        self._hash.update(chunk)
        return chunk

    def _fill(self, *, end: bool = False) -> bool:
        """Replace the exhausted buffer with the next chunk; False at the end of the stream, which only `end` permits."""
        chunk = self._pending[0].result()
        if chunk:
            self._pending.popleft()
            self._pending.append(self._worker.submit(self._next))
            self.size += len(chunk)
            if self.size > self._limits.total:
                raise LayerError(f"a layer unpacks to more than {self._limits.total} bytes", hint="it looks like a decompression bomb")
            self._buffer, self._at = chunk, 0
        elif not end:
            raise LayerError("a layer ends in the middle of an entry", hint="it was cut on its way; fetch it again")
        return bool(chunk)

    def _take(self, size: int, *, end: bool = False) -> bytes:
        """Return exactly `size` bytes; with `end`, b"" when the stream is over."""
        out = self._buffer[self._at : self._at + size]
        self._at += len(out)
        while len(out) < size:
            if not self._fill(end=end and not out):
                return b""
            more = self._buffer[: size - len(out)]
            self._at = len(more)
            out += more
        return out

    def _skip(self, size: int) -> None:
        while size:
            if self._at == len(self._buffer):
                self._fill()
            step = min(size, len(self._buffer) - self._at)
            self._at += step
            size -= step

    def _header(self) -> bytes | None:
        """Return the next header block, None at the end: two blocks of zeros, or no more data."""
        block = self._take(BLOCK, end=True)
        if block == _ZERO:
            if self._take(BLOCK, end=True) not in (b"", _ZERO):
                raise LayerError("a layer goes on after its end", hint="it is damaged; fetch it again")
            return None
        return block or None

    def _member(self, block: bytes) -> Member | None:
        """Parse one member with the extension headers before it; None for headers that describe no file."""
        pax: list[tuple[bytes, bytes]] = []
        name = link = None
        while True:
            check(block)
            kind, size = block[156:157], number(block[124:136])
            if kind not in b"xLKg" or not kind:
                break
            body = self._extension(size)
            if kind == b"x":
                pax = records(body)
            elif kind == b"L":
                name = body.partition(b"\0")[0]
            elif kind == b"K":
                link = body.partition(b"\0")[0]
            following = self._header()
            if following is None:
                raise LayerError("a layer ends after an extension header", hint="it was cut on its way; fetch it again")
            block = following
        fields = dict(pax)
        found = member(block, fields, name, link, self._limits)
        stored = 0 if ord(found.kind) in _NO_DATA else found.size
        self._left, self._pad = stored, -stored % BLOCK
        if found.kind == "V":  # a volume label
            return None
        if found.kind == "S":
            return self._old_sparse(found, block)
        if any(key.startswith(b"GNU.sparse.") for key in fields):
            return self._pax_sparse(found, pax, fields)
        return found

    def _extension(self, size: int) -> bytes:
        if size > self._limits.header:
            raise LayerError(f"a layer has an extension header of {size} bytes", hint="it looks like an attack; check its source")
        return self._take(size + -size % BLOCK)[:size]

    def _old_sparse(self, found: Member, block: bytes) -> Member:
        entries, more = old_entries(block[386:482]), block[482]
        while more:
            extra = self._take(BLOCK)
            entries += old_entries(extra[:504])
            more = extra[504]
            self._bounded(len(entries))
        return self._sparse(found._replace(kind="0"), entries, number(block[483:495]))

    def _pax_sparse(self, found: Member, pax: list[tuple[bytes, bytes]], fields: dict[bytes, bytes]) -> Member:
        length = integer(fields.get(b"GNU.sparse.realsize", fields.get(b"GNU.sparse.size", b"0")))
        entries = pairs(self._sparse_numbers()) if fields.get(b"GNU.sparse.major") == b"1" else pax_entries(pax)
        name = fields.get(b"GNU.sparse.name")
        if name is not None:
            found = found._replace(name=checked_name(name, self._limits))
        return self._sparse(found, entries, length)

    def _sparse_numbers(self) -> Iterator[int]:
        """Yield the decimal numbers that stand before the content in the GNU format 1.0, which ends on a block border."""
        text, count = b"", 0

        def line() -> int:
            nonlocal text, count
            while b"\n" not in text:
                if self._left < BLOCK:
                    raise LayerError("a sparse file has no map", hint="the layer is damaged; fetch it again")
                text += self._take(BLOCK)
                self._left -= BLOCK
                count += BLOCK
                self._bounded(count // 4)
            digits, _, text = text.partition(b"\n")
            return integer(digits)

        for _ in range(2 * line()):
            yield line()

    def _bounded(self, entries: int) -> None:
        if entries > self._limits.header // 4:
            raise LayerError("a sparse file has too many holes", hint="it looks like an attack; check its source")

    def _sparse(self, found: Member, entries: list[tuple[int, int]], length: int) -> Member:
        """Check a sparse map: ascending, inside the file, and as long as what is stored."""
        end = 0
        for offset, size in entries:
            if offset < end or size < 0:
                raise LayerError("a sparse file has an impossible map", hint="the layer is damaged; fetch it again")
            end = offset + size
        if end > length or sum(size for _, size in entries) != self._left or length - self._left > self._limits.holes:
            raise LayerError("a sparse file has an impossible map or is too large", hint="the layer is damaged or hostile")
        return found._replace(size=self._left, segments=tuple(entries), length=length)
