"""The tree of a layer while it is unpacked: what is where, and which names resolve to which directory.

It mirrors the directory on disk exactly, because nobody else writes there. Rules of one layer: the last entry of a name wins; a
deletion concerns the layers below only; a directory that takes the place of something else, or of a deletion, is opaque.
"""

import os
from collections.abc import Callable
from pathlib import Path

from pocket.oci.confine import Root
from pocket.oci.nodes import Nodes
from pocket.oci.tarheader import LayerError
from pocket.store.index import Entry, Index

Lower = Callable[[str], tuple[Entry, Path] | None]
_IMPLICIT = Entry("d", 0o755)
_WHITEOUT = Entry("w", 0)
_HOPS = 40  # as the kernel's limit for links


class LayerTree:
    """Entries by path and the children of each directory; `entries` is the index of the layer when all is done."""

    def __init__(self, root: Root, lower: Lower | None) -> None:
        self._root, self._lower = root, lower
        self._children: dict[str, set[str]] = {"": set()}
        self._resolved: dict[tuple[str, ...], str] = {(): ""}
        self._hides = False  # whether anything below was deleted, so that the common case asks nothing
        found = lower("") if lower else None
        self.entries: Index = {"": _plain(found[0]) if found else _IMPLICIT}

    def resolve(self, parts: list[str], *, create: bool = True) -> str:
        """Return the directory that a name leads to inside the layer, following links as a process in the image would.

        Directories that nobody announced are made with the attributes that they have below, unless `create` is off.
        """
        key = tuple(parts)
        known = self._resolved.get(key)
        if known is not None:
            return known
        todo, at, hops = parts[::-1], "", 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            path = f"{at}/{part}" if at else part
            here = self.entries.get(path)
            below = self.below(path) if here is None else None
            entry = below[0] if below else here
            if entry is not None and entry.kind == "l":
                hops += 1
                if hops > _HOPS:
                    raise LayerError(f"{'/'.join(parts)!r}: too many levels of symbolic links", hint="the layer is damaged or hostile")
                at = "" if entry.target.startswith("/") else at
                todo += entry.target.split("/")[::-1]
                continue
            if create and (here is None or here.kind != "d"):
                if part.startswith(".wh."):  # no layer could say that this directory exists
                    raise LayerError(f"{'/'.join(parts)!r} leads to {path!r}, which means a deletion", hint="the layer is hostile")
                self.set_directory(path, _plain(entry) if entry and entry.kind == "d" else _IMPLICIT)
            at = path
        if create:
            self._resolved[key] = at
        return at

    def below(self, path: str) -> tuple[Entry, Path] | None:
        """Return what the layers below show at a path that this layer does not mention."""
        if self._lower is None or (self._hides and self._hidden(path)):
            return None
        found = self._lower(path)
        return None if found and found[0].kind == "w" else found

    def _hidden(self, path: str) -> bool:
        while path:
            path = path.rpartition("/")[0]
            e = self.entries.get(path)
            if e and (e.opaque or e.kind != "d"):
                return True
        return False

    def set(self, path: str, e: Entry) -> None:
        """Record an entry that is no directory; its place was cleared."""
        self.entries[path] = e
        self._adopt(path)

    def set_directory(self, path: str, e: Entry) -> None:
        """Make a directory, or give one that is there new attributes."""
        old = self.entries.get(path)
        if old and old.kind == "d":
            self.entries[path] = e._replace(opaque=old.opaque)
            return
        self.clear(path)
        parent, _, name = path.rpartition("/")
        os.mkdir(name, 0o700, dir_fd=self._root.dir(parent))
        self.entries[path] = e._replace(opaque=old is not None)
        self._hides |= old is not None
        self._children[path] = set()
        self._adopt(path)

    def make_opaque(self, path: str) -> None:
        """Mark a directory of this layer: nothing below it shows through."""
        self.entries[path] = self.entries[path]._replace(opaque=True)
        self._hides = True

    def whiteout(self, path: str) -> None:
        """Record a deletion. What this layer itself put there stays, and hides what is below anyway."""
        old = self.entries.get(path)
        if old is None:
            self.set(path, _WHITEOUT)
            self._hides = True
        elif old.kind == "d":
            self.make_opaque(path)

    def clear(self, path: str) -> None:
        """Remove what this layer put at a path, so that nothing is ever written through or onto it."""
        old = self.entries.get(path)
        if old is None:
            return
        self._resolved = {(): ""}
        doomed = [path]
        for p in doomed:  # grows while it is walked: parents come before their children
            doomed.extend(f"{p}/{name}" for name in self._children.get(p, ()))
        for p in reversed(doomed):
            self._unlink(p, self.entries.pop(p))
            self._children.pop(p, None)
        parent, _, name = path.rpartition("/")
        self._children[parent].discard(name)

    def finish(self, nodes: Nodes) -> None:
        """Make the whiteouts, then give directories their attributes, deepest first, since children change their times."""
        for path in [p for p, e in self.entries.items() if e.kind == "w"]:
            if self._hides and self._hidden(path):
                del self.entries[path]  # overlayfs lists whiteouts inside opaque directories as files
            else:
                nodes.whiteout(path)
        for path in sorted((p for p, e in self.entries.items() if e.kind == "d"), reverse=True):
            nodes.settle_directory(path, self.entries[path])

    def _unlink(self, path: str, e: Entry) -> None:
        if e.kind in "wcb":  # not on disk, or not yet
            return
        parent, _, name = path.rpartition("/")
        at = self._root.dir(parent)
        if e.kind == "d":
            self._root.drop(path)
            os.rmdir(name, dir_fd=at)
        else:
            os.unlink(name, dir_fd=at)

    def _adopt(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        self._children[parent].add(name)


def _plain(e: Entry) -> Entry:
    """Return a directory's attributes as a layer above repeats them."""
    return e._replace(opaque=False)
