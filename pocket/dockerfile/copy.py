"""COPY and ADD: which files, where to, and with which owners and modes."""

from __future__ import annotations

import bz2
import fnmatch
import lzma
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from pocket.dockerfile.parse import DockerfileError
from pocket.oci.unpack import unpack_layer
from pocket.store import disk
from pocket.store.builder import publish
from pocket.store.layer import Layer
from pocket.tree import ops
from pocket.tree.view import View

if TYPE_CHECKING:
    from pocket.dockerfile.parse import Instruction
    from pocket.store.layer import Snapshot
    from pocket.store.store import Store

Owner = tuple[int, int] | None
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")


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
    found = [(path, pattern) for pattern in sources for path in _matches(view, root, pattern, line)]
    if len(found) > 1 and not dest.endswith("/"):
        raise DockerfileError(line, "when using COPY with more than one source file, the destination must be a directory and end with a /")
    snapshot, layers = base, list[Layer]()
    for path, pattern in found:
        target = dest
        if parents:
            below = path[len(root) + 1 if root else 0 :]
            pivot = pattern.partition("/./")[0] if "/./" in pattern else ""
            below = below[len(pivot) :].lstrip("/") if pivot else below
            node = view.need(path)
            target = posixpath.join(dest, below if node.is_dir else posixpath.dirname(below)) + ("" if node.is_dir else "/")
        made = _one(store, snapshot, src, path, target, owner, chmod, exclude, unpack=unpack)
        layers += made
        snapshot = type(base)((*snapshot.layers, *made), snapshot.key)
    return tuple(layers)


def _matches(view: View, root: str, pattern: str, line: int) -> list[str]:
    normal = posixpath.normpath(posixpath.join("/", pattern.replace("/./", "/"))).strip("/")
    if not any(c in normal for c in "*?["):
        place = posixpath.join(root, normal) if normal else root
        node = view.lookup(place)
        if node is None:
            raise DockerfileError(line, f'"/{normal}": not found', hint="check the path, and what .dockerignore leaves out")
        return [node.path]
    found = [root]
    for part in normal.split("/"):
        found = [n.path for p in found if (d := view.lookup(p)) and d.is_dir for n in view.listdir(p) if fnmatch.fnmatchcase(n.name, part)]
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
            store, base, src, src_path=path, dest=dest, exclude=exclude, owner=owner,
            dir_mode=_mode(chmod, node.entry.mode, directory=True) if chmod else None,
            file_mode=_mode(chmod, 0o644, directory=False) if chmod else None,
        )  # fmt: skip
    if unpack and _is_archive(view.real(node)):
        return _unpacked(store, base, view.real(node), dest)
    target = dest
    there = View(base).lookup(dest.strip("/")) if base.layers else None
    if dest.endswith("/") or (there is not None and there.is_dir):
        target = posixpath.join(dest, posixpath.basename(path))
    mode = _mode(chmod, node.entry.mode, directory=False) if chmod else None
    return ops.copy_file(store, base, src, path, dest=target, mode=mode, owner=owner)


def _mode(text: str, old: int, *, directory: bool) -> int:
    """Apply a --chmod value: octal, or symbolic such as `u=rwX,go=rX`."""
    if re.fullmatch(r"[0-7]+", text):
        return int(text, 8)
    mode = old
    for clause in text.split(","):
        match = re.fullmatch(r"([ugoa]*)([-+=])([rwxXst]*)", clause)
        if match is None:
            raise DockerfileError(0, f"invalid chmod value {text!r}")
        who, operator, what = match.groups()
        bits = 0
        values = {"r": 4, "w": 2, "x": 1, "X": 1 if directory or old & 0o111 else 0}
        for c in what:
            bits |= values.get(c, 0)
        for shift, name in ((6, "u"), (3, "g"), (0, "o")):
            if who and "a" not in who and name not in who:
                continue
            if operator == "=":
                mode = mode & ~(7 << shift) | bits << shift
            else:
                mode = mode | bits << shift if operator == "+" else mode & ~(bits << shift)
    return mode


def _is_archive(path: Path) -> bool:
    with path.open("rb") as f:
        head = f.read(512)
    return head.startswith(_ARCHIVES) or head[257:262] == b"ustar"


def _unpacked(store: Store, base: Snapshot, path: Path, dest: str) -> tuple[Layer, ...]:
    """Unpack a local archive and put its tree at `dest`."""
    home = store.tmp()
    try:
        with _plain(path) as stream:
            unpacked = unpack_layer(stream, home / "fs", chown=store.tier != "single-uid", opaque_xattr=disk.OPAQUE[store.tier])
        layer = publish(store, home, unpacked.index)
    except BaseException:
        disk.remove_tree(home)
        raise
    return ops.copy_tree(store, base, type(base)((layer,), f"archive:{layer.digest}"), dest=dest)


def _plain(path: Path) -> BinaryIO:
    with path.open("rb") as f:
        head = f.read(6)
    if head.startswith(b"BZh"):
        return cast("BinaryIO", bz2.open(path))
    if head.startswith(b"\xfd7zXZ"):
        return cast("BinaryIO", lzma.open(path))
    return path.open("rb")


def copy_text(
    store: Store, base: Snapshot, *, files: list[tuple[str, str]], dest: str, owner: Owner = None, chmod: str = ""
) -> tuple[Layer, ...]:
    """Give the layers of a COPY whose sources are here-documents (name, text)."""
    snapshot, layers = base, list[Layer]()
    for name, text in files:
        target = posixpath.join(dest, name) if dest.endswith("/") else dest
        mode = _mode(chmod, 0o644, directory=False) if chmod else 0o644
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
