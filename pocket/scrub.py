"""Secret values out of a stream of bytes, wherever the pieces are cut.

Every value, and what remains of it without white space at its ends, becomes `***`; where several begin at the same place, the longest
counts. A piece that might be the beginning of a value is held back until it is decided. Encoded forms (base64, URL, JSON) are
not recognised, as with the Dagger engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = b"***"


class Scrubber:
    """Scrubs one stream: `feed` its pieces, then `finish`. Together they give what scrubbing the whole at once would give."""

    __slots__ = ("_held", "_pattern", "_values")

    def __init__(self, values: Iterable[str | bytes]) -> None:
        raw = {v.encode("utf-8", "surrogateescape") if isinstance(v, str) else v for v in values}
        self._values = sorted((raw | {v.strip() for v in raw}) - {b""}, key=lambda v: (-len(v), v))
        self._pattern = re.compile(b"|".join(map(re.escape, self._values))) if self._values else None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; give what is decided."""
        if self._pattern is None:
            return data
        text = self._held + data
        out: list[bytes] = []
        done = 0
        undecided = self._undecided(text, 0)
        # A match that begins before the first undecided place is final: nothing that begins earlier, and nothing longer
        # that begins there, can still turn up.
        while (found := self._pattern.search(text, done)) is not None and found.start() < undecided:
            out += (text[done : found.start()], MASK)
            done = found.end()
            if done > undecided:
                undecided = self._undecided(text, done)
        self._held = text[undecided:]
        out.append(text[done:undecided])
        return b"".join(out)

    def finish(self) -> bytes:
        """End the stream; give what was held back, where whole values may still be."""
        held, self._held = self._held, b""
        return self._pattern.sub(MASK, held) if self._pattern is not None else held

    def _undecided(self, text: bytes, start: int) -> int:
        """Find the first place from `start` on where the rest of the text is the beginning of a longer value."""
        first = len(text)
        view = memoryview(text)
        for value in self._values:
            place = text.find(value[:1], max(start, len(text) - len(value) + 1), first)
            while place >= 0:
                # Comparing views copies nothing, so that a value of 128 kB costs one byte per false start.
                if view[place:] == memoryview(value)[: len(text) - place]:
                    first = place
                    break
                place = text.find(value[:1], place + 1, first)
        return first


def scrub(data: bytes, values: Iterable[str | bytes]) -> bytes:
    """Scrub a whole text at once."""
    scrubber = Scrubber(values)
    return scrubber.feed(data) + scrubber.finish()
