"""COPY and ADD: which files, where to, and with which owners and modes."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from typing import TYPE_CHECKING

from pocket.dockerfile import modes
from pocket.dockerfile.archives import is_archive, unpacked
from pocket.dockerfile.parse import DockerfileError
from pocket.store.layer import Layer
from pocket.tree import ops
from pocket.tree.view import View

if TYPE_CHECKING:
    from pocket.dockerfile.parse import Instruction
    from pocket.store.layer import Snapshot
    from pocket.store.store import Store

Owner = tuple[int, int] | None


def copy(  # noqa: PLR0913 - the options of COPY
    store: Store,
    base: Snapshot,
    src: Snapshot,
    *,
    root: str,
    sources: list[str],
    dest: str,
    line: int,
    owner: Owner = None,
    chmod: str = "",
    exclude: list[str],
    parents: bool = False,
    unpack: bool = False,
) -> tuple[Layer, ...]:
    """Give the layers of one COPY (or, with `unpack`, ADD) of `sources` below `root` to the absolute path `dest`."""
    view = View(src)
    found = [(path, pattern) for pattern in sources for path in _matches(view, root, pattern, line, deep=parents)]
    if len(found) > 1 and not dest.endswith("/"):
        raise DockerfileError(line, "when using COPY with more than one source file, the destination must be a directory and end with a /")
    snapshot, layers = base, list[Layer]()
    for path, pattern in found:
        target = dest
        if parents:
            below = path[len(root) + 1 if root else 0 :]
            below = "/".join(below.split("/")[_pivot(pattern) :])
            node = view.need(path)
            target = posixpath.join(dest, below if node.is_dir else posixpath.dirname(below)) + ("" if node.is_dir else "/")
        made = _one(store, snapshot, src, path, target, owner, chmod, exclude, unpack=unpack)
        layers += made
        snapshot = type(base)((*snapshot.layers, *made), snapshot.key)
    return tuple(layers)


def _pivot(pattern: str) -> int:
    """Give how many components `--parents` leaves out: those before `/./`."""
    before, pivot, _ = pattern.partition("/./")
    return len([part for part in before.split("/") if part not in ("", ".")]) if pivot else 0


def _matches(view: View, root: str, pattern: str, line: int, *, deep: bool) -> list[str]:
    """Give the paths that a source names; with `deep`, as for --parents, `**` stands for any number of directories."""
    normal = posixpath.normpath(posixpath.join("/", pattern.replace("/./", "/"))).strip("/")
    if not any(c in normal for c in "*?["):
        place = posixpath.join(root, normal) if normal else root
        node = view.lookup(place)
        if node is None:
            raise DockerfileError(line, f'"/{normal}": not found', hint="check the path, and what .dockerignore leaves out")
        return [node.path]
    found = [root]
    for part in normal.split("/"):
        folders = [p for p in found if (d := view.lookup(p)) and d.is_dir]
        if deep and part == "**":
            below = [n.path for p in folders for n in view.walk(p) if n.is_dir]
            found = list(dict.fromkeys((*folders, *below)))
        else:
            found = [n.path for p in folders for n in view.listdir(p) if fnmatch.fnmatchcase(n.name, part)]
    if not found:
        raise DockerfileError(line, f'no source files matched "{pattern}"')
    return sorted(found)


def _one(
    store: Store, base: Snapshot, src: Snapshot, path: str, dest: str, owner: Owner, chmod: str, exclude: list[str], *, unpack: bool
) -> tuple[Layer, ...]:
    view = View(src)
    node = view.need(path)
    if node.is_dir:
        return ops.copy_tree(
            store, base, src, src_path=path, dest=dest, exclude=exclude, owner=owner, parents=owner,
            mode=modes.parse(chmod) if chmod else None,
        )  # fmt: skip
    if unpack and is_archive(view.real(node)):
        return unpacked(store, base, view.real(node), dest, owner)
    target = dest
    there = View(base).lookup(dest.strip("/")) if base.layers else None
    if dest.endswith("/") or (there is not None and there.is_dir):
        target = posixpath.join(dest, posixpath.basename(path))
    mode = modes.parse(chmod)(node.entry.mode, False) if chmod else None
    return ops.copy_file(store, base, src, path, dest=target, mode=mode, owner=owner, parents=owner)


def copy_text(
    store: Store, base: Snapshot, *, files: list[tuple[str, str]], dest: str, owner: Owner = None, chmod: str = ""
) -> tuple[Layer, ...]:
    """Give the layers of a COPY whose sources are here-documents (name, text)."""
    snapshot, layers = base, list[Layer]()
    for name, text in files:
        target = posixpath.join(dest, name) if dest.endswith("/") else dest
        above = ops.make_dir(store, snapshot, posixpath.dirname(target), owner=owner) if owner else ()
        layers += above
        snapshot = type(base)((*snapshot.layers, *above), snapshot.key)
        mode = modes.parse(chmod)(0o644, False) if chmod else 0o644
        made = ops.write_file(store, snapshot, target.strip("/"), text.encode("utf-8", "surrogateescape"), mode, owner)
        layers += made
        snapshot = type(base)((*snapshot.layers, *made), snapshot.key)
    return tuple(layers)


def refuse_remote(instruction: Instruction, sources: list[str]) -> None:
    """Raise for an ADD of something that is not in the context."""
    for source in sources:
        if re.match(r"(https?|git|ssh)://|git@", source):
            instead = "fetch it with http() or git() and COPY it, or use a Dagger engine"
            raise DockerfileError(instruction.line, f"not supported by pocket: ADD {source} — {instead}")
