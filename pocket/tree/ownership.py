"""Who owns what a step wrote, where the disk shows one user only (tier single-uid).

Three sources, the first that knows wins: what the step said itself (`pocket.sandbox.record`, by inode), the lower layer that a path or
an inode was copied up from, the user that the step ran as. Overlayfs marks what it copied up, but no links and no file that has
further names below: an equal link, or any file in such a one's place, is taken for the same. What was moved away from its old path is
recognised by its content, without a mark also by its time, among what the step has hidden. In the other tiers the disk says who owns
what, and the notes only which empty files stand for devices.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pocket.sandbox import linux
from pocket.sandbox.record import AS_IT_IS, AS_SEEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pocket.sandbox.record import Note
    from pocket.store.index import Entry, Index
    from pocket.tree.view import Node, View

COPIED_UP = "user.overlay.origin"
Owner = tuple[int, int]


@dataclass(slots=True)
class Ownership:
    """The owners of one upper directory; ask for parents before their children."""

    owner: Owner
    notes: Iterable[Note]
    _noted: dict[int, tuple[int, int, int, str]] = field(init=False)
    _groups: dict[str, int] = field(init=False, default_factory=dict)  # of directories that give theirs to what is made in them
    _shared: dict[int, Owner] = field(init=False, default_factory=dict)  # inode of a file with several names → its owner below
    _strays: dict[str, tuple[os.stat_result, bool]] = field(init=False, default_factory=dict)  # nothing below; whether marked
    _replaced: list[Node] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Sort the notes by inode."""
        self._noted = {inode: rest for _, inode, *rest in self.notes}  # type: ignore[misc]

    def of(self, path: str, place: str, st: os.stat_result, view: View, below: Node | None, *, copied: bool, link: str) -> Owner:
        """Return the owner of a path; copied: overlayfs says it comes from a lower layer; link: where a symlink points."""
        kept = below is not None and _same(path, st, below, view, copied=copied, link=link)
        if below is not None and kept:
            owner = below.entry.uid, below.entry.gid
            if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
                self._shared[st.st_ino] = owner
        else:
            owner = self.owner[0], self._groups.get(path.rpartition("/")[0], self.owner[1])
            if below is not None:
                self._replaced.append(below)
            if not stat.S_ISDIR(st.st_mode):
                self._strays[path] = st, copied
        # sed -i, useradd and the like write a new file and give it the owner that they saw on the old one: they mean its own.
        rewritten = below is not None and not kept and below.entry.kind == "f" and stat.S_ISREG(st.st_mode)
        seen = (below.entry.uid, below.entry.gid) if below is not None and rewritten else self.owner
        owner = self._after(place, st, owner, seen)
        if stat.S_ISDIR(st.st_mode) and st.st_mode & stat.S_ISGID:
            self._groups[path] = owner[1]
        return owner

    def device(self, place: str, st: os.stat_result) -> str:
        """Return which device ("c1:3") an empty file stands for, "" for an ordinary one."""
        noted = self._note(place, st)
        return noted[2] if noted else ""

    def adopt(self, index: Index, view: View, upper: str) -> None:
        """Give files that were moved, or got a further name, the owner that they had below."""
        strays = {path: stray for path, stray in self._strays.items() if path in index}
        known: dict[object, Owner] = {}
        for node in self._hidden(index, view) if strays else ():
            if node.entry.uid or node.entry.gid:
                known |= dict.fromkeys((_content(node.entry), _content(node.entry, timed=True)), (node.entry.uid, node.entry.gid))
        for path, (st, marked) in strays.items():
            before = self._shared.get(st.st_ino) or known.get(_content(index[path], timed=not marked))
            if before is not None:
                uid, gid = self._after(f"{upper}/{path}", st, before, self.owner if marked else before)
                index[path] = index[path]._replace(uid=uid, gid=gid)

    def _after(self, place: str, st: os.stat_result, owner: Owner, seen: Owner) -> Owner:
        noted = self._note(place, st)
        if noted is None:
            return owner
        uid, gid = noted[:2]
        return {AS_IT_IS: owner[0], AS_SEEN: seen[0]}.get(uid, uid), {AS_IT_IS: owner[1], AS_SEEN: seen[1]}.get(gid, gid)

    def _note(self, place: str, st: os.stat_result) -> tuple[int, int, str] | None:
        if (found := self._noted.get(st.st_ino)) is None:
            return None
        born, *noted = found
        # The number alone does not do: the file may be gone, and its number another one's.
        return tuple(noted) if born == linux.identity(place).born else None  # type: ignore[return-value]

    def _hidden(self, index: Index, view: View) -> Iterator[Node]:
        yield from self._replaced
        for path, entry in index.items():
            if entry.kind == "w" or entry.opaque:
                node = view.get(path)
                if node is not None and node.is_dir:
                    yield from view.walk(path)
                elif node is not None:
                    yield node


def _same(path: str, st: os.stat_result, below: Node, view: View, *, copied: bool, link: str) -> bool:
    """Tell whether a path still is what the lower layer has there; what took its place has the owner of its maker."""
    kind = below.entry.kind
    if not path or copied:
        return True
    if stat.S_ISREG(st.st_mode):
        return kind == "f" and os.lstat(view.real(below)).st_nlink > 1
    if stat.S_ISDIR(st.st_mode):
        return False
    return kind == "l" and below.entry.target == link if link else kind not in "fdl"


def _content(e: Entry, *, timed: bool = False) -> object:
    return (e.kind, e.target, e.mtime) if timed else (e.kind, e.target)
