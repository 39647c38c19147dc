"""A layer in the making on top of a snapshot, and where in it a path leads: followed as a shell does, or as the Dagger engine copies."""

import time

from pocket.errors import TreeError
from pocket.store import index as ix
from pocket.store.builder import LayerBuilder
from pocket.store.index import Entry, clean, join
from pocket.store.layer import Layer, Snapshot
from pocket.store.store import Store
from pocket.tree.view import View

Layers = tuple[Layer, ...]
Owner = tuple[int, int] | None


def tidy(path: str) -> str:
    """Return a path relative to the tree; only an absolute one may try to climb above the root, where it stays."""
    return clean(path, allow_up=path.startswith("/"))


def now() -> int:
    """Return the time that new files get, in seconds."""
    return int(time.time())


class Onto:
    """A builder for a layer on top of a snapshot, which repeats the directories above a change with their attributes.

    `copying`: what leads nowhere makes room for a directory, as where the Dagger engine copies; else it is followed, as by a shell.
    """

    def __init__(self, store: Store, base: Snapshot, *, copying: bool = False) -> None:
        self.view = View(base)
        self.copying = copying
        self.builder: LayerBuilder = store.layer_builder()
        self.builder.mkdir("", self.view.root().entry._replace(opaque=False))

    def above(self, path: str, owner: Owner = None, mode: int = 0o755) -> None:
        """Put in the directories above a path; those that are made get the owner and the mode."""
        for parent in ix.parents(path):
            if parent in self.builder.entries:
                continue
            node = self.view.get(parent)
            if node is None:
                uid, gid = owner or (0, 0)
                self.builder.mkdir(parent, Entry("d", mode, uid, gid, mtime=now()))
            elif self.copying and node.entry.kind == "l":  # it leads nowhere, or `within` had followed it
                self.builder.mkdir(parent, Entry("d", mode, mtime=now()))
            elif not node.is_dir:
                refused = (
                    f'cannot copy directory to non-directory "/{parent}"' if self.copying else f"path {parent} is a file, not a directory"
                )
                raise TreeError(refused)
            else:
                self.builder.mkdir(parent, node.entry._replace(opaque=False))

    def within(self, path: str) -> str:
        """Return where a directory lies or is to be made; a symlink counts only when it leads to a directory."""
        here = ""
        for name in path.split("/") if path else ():
            place = join(here, name)
            found = self.view.lookup(place)
            here = found.path if found is not None and found.is_dir else place
        return here

    def file_at(self, dest: str, name: str) -> str:
        """Return where a file is to be copied to: into a directory under `name`, else in the place of whatever is there."""
        wanted = tidy(dest)
        there = self.view.lookup(wanted)
        if dest.endswith(("/", "/.")) or (there is not None and there.is_dir):
            return join(self.within(wanted), name)
        parent, _, last = wanted.rpartition("/")
        return join(self.within(parent), last)

    def finish(self) -> Layers:
        """Give the layer."""
        return (self.builder.finish(),)
