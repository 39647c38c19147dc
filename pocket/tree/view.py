"""A merged, read-only view of a snapshot, computed from the indexes as overlayfs would show it; disk is touched for content only.

Symlinks are resolved inside the view, never on the host. A view keeps small caches and may be shared between threads.
"""

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pocket.errors import TreeError
from pocket.store.index import Entry, clean, join, on_disk, tree_key
from pocket.store.layer import Layer, Snapshot

_MAX_LINKS = 40
_ROOT = Entry("d", 0o755)


class Node(NamedTuple):
    """A path of a view, its entry, and the layer that provides it (none for the root of an empty snapshot)."""

    path: str
    entry: Entry
    layer: Layer | None

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_dir(self) -> bool:
        """Whether this is a directory."""
        return self.entry.kind == "d"


def missing(path: str) -> TreeError:
    """Return the error for a path that is not there."""
    return TreeError(f"{path}: no such file or directory")


class View:
    """What a container sees of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._stack = tuple(reversed(snapshot.layers))
        self._dirs: dict[str, tuple[Layer, ...]] = {}
        self._names: dict[str, list[str]] = {}

    # --- one path
    def lookup(self, path: str, *, follow: bool = True) -> Node | None:
        """Return the node at a path, None when there is none. With `follow` also the last component is resolved.

        The node's path is the resolved one. TreeError when symlinks loop.
        """
        todo = [p for p in reversed(path.split("/")) if p not in ("", ".")]
        if "\0" in path:
            clean(path)
        here, node, links = "", self.root(), 0
        while todo:
            part = todo.pop()
            if part == "..":
                here = here.rpartition("/")[0]
                node = self.get(here) or self.root()
                continue
            if not node.is_dir or (found := self.get(join(here, part))) is None:
                return None
            if found.entry.kind == "l" and (follow or todo):
                links += 1
                if links > _MAX_LINKS:
                    raise TreeError(f"{path}: too many levels of symbolic links")
                if found.entry.target.startswith("/"):
                    here, node = "", self.root()
                todo += [p for p in reversed(found.entry.target.split("/")) if p not in ("", ".")]
                continue
            here, node = found.path, found
        return node

    def need(self, path: str, *, follow: bool = True) -> Node:
        """Like `lookup`, but TreeError when there is nothing."""
        node = self.lookup(path, follow=follow)
        if node is None:
            raise missing(path)
        return node

    def directory(self, path: str) -> Node:
        """Return a directory; TreeError with Dagger's words when it is missing or something else."""
        node = self.need(path)
        if not node.is_dir:
            raise TreeError(f"path {path} is a file, not a directory")
        return node

    def file(self, path: str) -> Node:
        """Return a file; TreeError with Dagger's words when it is missing or a directory."""
        node = self.need(path)
        if node.is_dir:
            raise TreeError(f"path {path} is a directory, not a file")
        return node

    def root(self) -> Node:
        """Return the root directory."""
        for layer in self._stack:
            if (e := layer.entry("")) is not None:
                return Node("", e, layer)
        return Node("", _ROOT, None)

    def get(self, path: str) -> Node | None:
        """Return the node at a clean path without resolving any symlink."""
        if not path:
            return self.root()
        for layer in self.providers(path.rpartition("/")[0]):
            if (e := layer.entry(path)) is not None:
                return None if e.kind == "w" else Node(path, e, layer)
        return None

    def resolve(self, path: str) -> str:
        """Return where a new path would lie: symlinks of what exists are followed, the rest is appended, inside the tree."""
        todo = [p for p in reversed(path.split("/")) if p not in ("", ".")]
        here, links = "", 0
        while todo:
            part = todo.pop()
            if part == "..":
                here = here.rpartition("/")[0]
                continue
            found = self.get(join(here, part))
            if found is not None and found.entry.kind == "l":
                links += 1
                if links > _MAX_LINKS:
                    raise TreeError(f"{path}: too many levels of symbolic links")
                if found.entry.target.startswith("/"):
                    here = ""
                todo += [p for p in reversed(found.entry.target.split("/")) if p not in ("", ".")]
                continue
            here = join(here, part)
        return clean(here)

    # --- directories
    def providers(self, path: str) -> tuple[Layer, ...]:
        """Return the layers whose entries make up a directory, top first; none when it is not a directory."""
        if (known := self._dirs.get(path)) is not None:
            return known
        out: list[Layer] = []
        for layer in self.providers(path.rpartition("/")[0]) if path else self._stack:
            e = layer.entry(path)
            if e is None:
                continue
            if e.kind != "d":
                break
            out.append(layer)
            if e.opaque:
                break
        self._dirs[path] = tuple(out)
        return self._dirs[path]

    def listdir(self, path: str) -> list[Node]:
        """Return what a directory holds, sorted by name."""
        return self._merged(self.directory(path).path)

    def _merged(self, path: str) -> list[Node]:
        seen: dict[str, Node] = {}
        for layer in self.providers(path):
            for name, e in self._children(layer, path):
                if name not in seen:
                    seen[name] = Node(name, e, layer)
        return [seen[k] for k in sorted(seen) if seen[k].entry.kind != "w"]

    def walk(self, path: str = "") -> Iterator[Node]:
        """Yield everything below a directory: a directory before its content, names sorted."""
        yield from self._walk(self.directory(path).path)

    def _walk(self, path: str) -> Iterator[Node]:
        layers = self.providers(path)
        if len(layers) == 1:
            index, names = layers[0].index(), self._sorted(layers[0])
            low, high = self._range(names, path)
            for name in names[low:high]:
                e = index[name]
                if e.kind != "w":
                    yield Node(name, e, layers[0])
            return
        for node in self._merged(path):
            yield node
            if node.entry.kind == "d":
                yield from self._walk(node.path)

    def _children(self, layer: Layer, path: str) -> Iterator[tuple[str, Entry]]:
        index, names = layer.index(), self._sorted(layer)
        at, high = self._range(names, path)
        while at < high:
            name = names[at]
            e = index[name]
            yield name, e
            at = bisect_left(names, tree_key(name) + "\1", at + 1, high, key=tree_key) if e.kind == "d" else at + 1

    def _sorted(self, layer: Layer) -> list[str]:
        if (names := self._names.get(layer.id)) is None:
            names = self._names[layer.id] = layer.names()
        return names

    @staticmethod
    def _range(names: list[str], path: str) -> tuple[int, int]:
        if not path:
            return 1 if names and not names[0] else 0, len(names)
        key = tree_key(path)
        low = bisect_left(names, key + "\0", key=tree_key)
        return low, bisect_left(names, key + "\1", low, key=tree_key)

    # --- content
    def real(self, node: Node) -> Path:
        """Return where a node's bytes lie on disk."""
        if node.layer is None:
            raise missing(node.path)
        return Path(on_disk(str(node.layer.path), node.path))

    def read(self, node: Node, limit: int = -1) -> bytes:
        """Return the content of a file node."""
        with open(self.real(node), "rb") as f:
            return f.read(limit)
