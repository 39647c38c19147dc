"""Whether a layer is worth compressing: weights, archives and media are not, and cost two digests and a copy for nothing."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from pocket.oci.compress import shrinks

if TYPE_CHECKING:
    from pocket.store.layer import Layer

LARGE = 32 << 20  # bytes: smaller layers are compressed unseen
_FILES, _PLACES, _BYTES = 16, 4, 4096  # the largest files, places in each, bytes at each
_MOST = 0.9  # of a layer's bytes: the rest decides nothing


def worth_compressing(layer: Layer) -> bool:
    """Say so of a layer by samples of its largest files; the answer depends on its content alone."""
    if layer.bytes < LARGE:
        return True
    largest = heapq.nlargest(_FILES, ((e.size, path) for path, e in layer.index().items() if e.kind == "f"))
    sample, seen = bytearray(), 0
    for size, path in largest:
        if seen >= layer.bytes * _MOST:
            break
        seen += size
        with (layer.path / path).open("rb", buffering=0) as file:
            for place in range(_PLACES):
                file.seek(size * place // _PLACES)
                sample += file.read(_BYTES)
    # Where the largest files are not even half of it, it is many small ones: text and programs, most likely.
    return seen * 2 < layer.bytes or shrinks(bytes(sample))
