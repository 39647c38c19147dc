"""Layers and snapshots: immutable directories in the store, stacked bottom first.

A layer made by moving another one below a directory shares that one's index file and only names the prefix, so that a tree
of 100,000 files placed in a container costs hard links and nothing else.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pocket.store import index as ix
from pocket.store.index import Entry, Index

_CACHED_ENTRIES = 120_000
_SMALL = 256  # an index this short is read whole: cheaper than a mapping


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One committed layer. `path` is the directory that overlayfs takes; `prefix` and `extra` describe a re-rooted one."""

    id: str
    home: Path
    digest: str
    bytes: int
    files: int
    entries: int
    hides: int = 0  # whiteouts and opaque directories
    prefix: str = ""
    extra: tuple[tuple[str, Entry], ...] = ()
    _file: list[ix.IndexFile] = field(default_factory=list, repr=False)

    @classmethod
    def load(cls, home: Path) -> "Layer":
        """Read `meta.json`. OSError or ValueError when there is no whole layer here."""
        m: dict[str, Any] = json.loads((home / "meta.json").read_bytes())
        extra = tuple(ix.parse(row) for row in m.get("extra", ()))
        return cls(home.name, home, m["digest"], m["bytes"], m["files"], m["entries"], m["hides"], m.get("prefix", ""), extra)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layer) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def path(self) -> Path:
        """The directory that overlayfs takes."""
        return self.home / "fs"

    def entry(self, path: str) -> Entry | None:
        """Return the entry of one path without loading the index."""
        for name, e in self.extra:
            if name == path:
                return e
        if (loaded := _CACHE.get(self.home)) is not None:
            return loaded.get(path)
        if self.entries <= _SMALL:
            return self.index().get(path)
        if self.prefix:
            if not path.startswith(self.prefix + "/"):
                return None
            path = path[len(self.prefix) + 1 :]
        if not self._file:
            self._file.append(ix.IndexFile(self.home / "index.json"))
        return self._file[0].get(path)

    def rows(self) -> Iterator[tuple[str, Entry]]:
        """Stream the entries; parents come before their children."""
        if not self.prefix:
            yield from ix.rows(self.home / "index.json")
            return
        yield from self.extra
        for path, e in ix.rows(self.home / "index.json"):
            if path:
                yield f"{self.prefix}/{path}", e

    def index(self) -> Index:
        """Return every entry by path. Few large indexes stay in memory; treat the answer as read-only."""
        loaded = _CACHE.get(self.home)
        if loaded is None:
            loaded = dict(self.rows())
            remember(self, loaded)
        return loaded

    def names(self) -> list[str]:
        """Return every path in tree order, for finding ranges by bisection."""
        return list(self.index())


class _Cache:
    """Indexes by layer, the least recently made forgotten first; counted in entries, because those are what takes memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, Index] = OrderedDict()
        self._total = 0

    def get(self, home: Path) -> Index | None:
        return self._kept.get(home)

    def put(self, home: Path, index: Index) -> None:
        with self._lock:
            if home in self._kept:
                return
            self._kept[home] = index
            self._total += len(index)
            while self._total > _CACHED_ENTRIES and len(self._kept) > 1:
                self._total -= len(self._kept.popitem(last=False)[1])


_CACHE = _Cache()


def remember(layer: Layer, index: Index) -> None:
    """Keep an index at hand, in tree order."""
    if any(a > b for a, b in pairwise(map(ix.tree_key, index))):
        index = {k: index[k] for k in sorted(index, key=ix.tree_key)}
    _CACHE.put(layer.home, index)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stack of layers, bottom first, and the identity that keys of later operations build on."""

    layers: tuple[Layer, ...] = ()
    key: str = "scratch"

    @property
    def top(self) -> Layer | None:
        """The layer above all others."""
        return self.layers[-1] if self.layers else None


SCRATCH = Snapshot()
