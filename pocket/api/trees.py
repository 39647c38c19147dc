"""What the fields of Container, Directory and File share: looking into a snapshot, with Dagger's error texts."""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pocket.errors import PocketError, TreeError
from pocket.graph import Input, Leaf, Tree
from pocket.graph import Node as Step
from pocket.ops.edit import Edit
from pocket.ops.exec import Exec
from pocket.tree import query
from pocket.tree.view import Node, View

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.tree.query import Stat
    from pocket.values import Container

T = TypeVar("T")
Settled: TypeAlias = T | Awaitable[T]


def settled(e: Engine, c: Container, value: T) -> Settled[T]:
    """Give what a container says of itself once the last command before it, or a file put into it, has been tried.

    As with the Dagger engine, whoever asks for as little as a label is told that the command failed. An image's layers are not needed.
    """
    return _after(e, c.rootfs.node, value) if isinstance(c.rootfs.node.op, Exec | Edit) else value


async def _after(e: Engine, node: Step, value: T) -> T:
    await e.solver.outputs(node)
    return value


async def view(e: Engine, tree: Tree | Leaf) -> View:
    """Give the merged view of the snapshot that a directory or file lies in."""
    return View(await e.solver.snapshot(Input(tree.ref)))


def inside(tree: Tree, path: str) -> str:
    """Give a path below a directory as a path of its snapshot; `..` may not leave the directory."""
    normal = posixpath.normpath(posixpath.join("/", path)).lstrip("/")
    return posixpath.join(tree.path, normal) if normal else tree.path


async def require_directory(e: Engine, tree: Tree, shown: str) -> Tree:
    """Give the directory with symlinks in its path resolved.

    Raises:
        TreeError: it is missing or a file.
    """
    node = _found(await view(e, tree), tree.path, shown)
    if node.entry.kind != "d":
        raise TreeError(f"path {shown} is a file, not a directory")
    name = posixpath.basename(tree.path)
    return Tree(tree.ref, node.path, "" if name == node.name else name)  # through a symlink: the name that was asked for


async def require_file(e: Engine, leaf: Leaf, shown: str) -> Leaf:
    """Give the file with symlinks in its path resolved, under the name it was asked for.

    Raises:
        TreeError: it is missing or a directory.
    """
    node = _found(await view(e, leaf), leaf.path, shown)
    if node.entry.kind == "d":
        raise TreeError(f"path {shown} is a directory, not a file")
    return Leaf(leaf.ref, node.path, posixpath.basename(shown.rstrip("/")))


def _found(v: View, path: str, shown: str) -> Node:
    node = v.lookup(path)
    if node is None:
        raise TreeError(f"stat {shown}: no such file or directory")
    return node


async def exists_in(e: Engine, tree: Tree, path: str, expected_type: str | None, *, follow: bool) -> bool:
    """Tell whether there is something of the expected type at a path."""
    return query.exists(await view(e, tree), inside(tree, path), expected_type, follow=follow)


async def stat_in(e: Engine, tree: Tree, path: str, *, follow: bool, shown: str = "") -> Stat:
    """Give what is known of a path.

    Raises:
        TreeError: nothing is there.
    """
    found = query.stat(await view(e, tree), inside(tree, path), follow=follow)
    if found is None:
        raise TreeError(f"stat {shown or path}: no such file or directory")
    return found


def read_bytes(v: View, path: str, *, limit: int = 128 << 20) -> bytes:
    """Give the content of a file.

    Raises:
        PocketError: it has more than `limit` bytes.
    """
    node = _found(v, path, path)
    if node.entry.size > limit:
        raise PocketError(f"file {path} has {node.entry.size} bytes; contents() gives at most {limit}", hint="export it instead")
    return v.real(node).read_bytes()
