"""`Container` fields about files: copying in, taking out, and mounts. A path inside a mount is read and written there."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pocket.api.core import leaf_of, ref_of
from pocket.api.registry import field
from pocket.api.trees import Settled, exists_in, require_directory, require_file, settled, stat_in
from pocket.errors import TreeError
from pocket.graph import Leaf, Node, Ref, Tree
from pocket.ops import edits
from pocket.ops.edit import SCRATCH_REF, Apply, Scratch, edit
from pocket.tree.query import Stat
from pocket.values import Container, MountPoint

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj


_LONGEST = 255  # bytes or so of a file's name
_KIND = {"temp": "tmpfs", "cache": "cache"}


def _locate(c: Container, path: str, expand: bool = False) -> tuple[MountPoint | None, Ref, str]:
    """Give the mount that holds a path (or None), the file system to look in, and the path there without leading slash.

    Raises:
        TreeError: the path lies in a cache volume or a temporary mount, which have no content of their own.
    """
    full = c.resolve(c.expand(path) if expand else path)
    mount = c.mount_at(full)
    if mount is None or mount.kind in ("secret", "socket"):
        return None, c.rootfs, full.lstrip("/")
    if mount.kind in ("cache", "temp"):
        raise TreeError(f"{full}: cannot retrieve path from {_KIND[mount.kind]}")
    if mount.kind == "file":
        leaf = mount.leaf
        assert leaf is not None
        return mount, leaf.ref, leaf.path
    assert mount.tree is not None
    below = full[len(mount.target) :].strip("/")
    return mount, mount.tree.ref, posixpath.join(mount.tree.path, below) if below else mount.tree.path


def _write(
    c: Container, where: str, kind: str, apply: Apply, *sources: Tree | Leaf, name: str = "path", owner: str = "", **options: Any
) -> Container:
    """Apply a tree operation at a path of the container: in the mount that holds it, or in the root file system.

    `name` is the option under which the operation takes the path.
    """
    full = c.resolve(where)
    mount = c.mount_at(full)
    if mount is not None and mount.kind in ("cache", "temp"):
        raise TreeError(f"failed to locate path {where}: {full}: cannot retrieve path from {_KIND[mount.kind]}")
    if (
        mount is not None
        and mount.target == full
        and (mount.kind == "file" or (mount.kind == "directory" and apply is not edits.copy_tree))
    ):
        c = c.change(mounts=tuple(m for m in c.mounts if m is not mount))  # what a mount hides is meant when the mount itself is named
        mount = None
    if mount is None or mount.kind != "directory" or mount.tree is None:
        trailing = "/" if where.endswith(("/", "/.")) and full != "/" else ""
        options[name] = full.lstrip("/") + trailing
        return c.change(rootfs=edit(kind, c.rootfs, apply, *sources, owner=owner, **options))
    options[name] = full[len(mount.target) :].strip("/")
    ref = edit(kind, ref_of(mount.tree), apply, *sources, owner=owner, users=c.rootfs, **options)
    return _remount(c, replace(mount, tree=Tree(ref)))


def _remount(c: Container, mount: MountPoint) -> Container:
    return c.change(mounts=tuple(mount if m.target == mount.target else m for m in c.mounts))


# --- copying in ----------------------------------------------------------------------------------------------------
@field("Container", "withDirectory")
def with_directory(
    _: Engine,
    c: Container,
    path: str,
    source: Obj,
    exclude: list[str],
    include: list[str],
    gitignore: bool,
    owner: str,
    expand: bool,
    permissions: int | None = None,
) -> Container:
    del permissions  # the Dagger engine takes it and changes nothing
    path = c.expand(path) if expand else path
    tree: Tree = source.state
    options = {"src_path": tree.path, "include": include, "exclude": exclude, "gitignore": gitignore}
    return _write(c, path, "copy_tree", edits.copy_tree, tree, owner=owner, name="dest", **options)


@field("Container", "withFile")
def with_file(_: Engine, c: Container, path: str, source: Obj, owner: str, expand: bool, permissions: int | None = None) -> Container:
    leaf = leaf_of(source)
    options = {"src_path": leaf.path, "basename": leaf.basename(), "mode": permissions}
    return _write(c, c.expand(path) if expand else path, "copy_file", edits.copy_file, leaf, owner=owner, name="dest", **options)


@field("Container", "withFiles")
def with_files(
    e: Engine, c: Container, path: str, sources: list[Obj], owner: str, expand: bool, permissions: int | None = None
) -> Container:
    for source in sources:
        c = with_file(e, c, posixpath.join(path, leaf_of(source).basename()), source, owner, expand, permissions)
    return c


@field("Container", "withNewFile")
def with_new_file(_: Engine, c: Container, path: str, contents: str, permissions: int, owner: str, expand: bool) -> Container:
    path = c.expand(path) if expand else path
    if len(posixpath.basename(posixpath.normpath(path))) > _LONGEST:
        raise TreeError(f"failed to create new file {path}: File name length exceeds the maximum supported {_LONGEST} characters")
    return _write(c, path, "new_file", edits.new_file, name="dest", owner=owner, text=contents, mode=permissions & 0o777 or 0o644)


@field("Container", "withSymlink")
def with_symlink(_: Engine, c: Container, target: str, link_name: str, expand: bool) -> Container:
    if expand:
        target, link_name = c.expand(target), c.expand(link_name)
    return _write(c, link_name, "symlink", edits.symlink, target=target)


def _without(c: Container, paths: list[str], expand: bool) -> Container:
    for path in paths:
        place = c.expand(path) if expand else path
        try:
            c = _write(c, place, "remove", edits.remove_path)
        except TreeError as e:
            raise TreeError(f'failed to remove path "{place}": {e}') from e
    return c


@field("Container", "withoutFile")
def without_file(_: Engine, c: Container, path: str, expand: bool) -> Container:
    return _without(c, [path], expand)


@field("Container", "withoutFiles")
def without_files(_: Engine, c: Container, paths: list[str], expand: bool) -> Container:
    return _without(c, paths, expand)


@field("Container", "withoutDirectory")
def without_directory(_: Engine, c: Container, path: str, expand: bool) -> Container:
    return _without(c, [path], expand)


# --- taking out ----------------------------------------------------------------------------------------------------
@field("Container", "rootfs")
def rootfs(_: Engine, c: Container) -> Tree:
    return Tree(c.rootfs)


@field("Container", "withRootfs")
def with_rootfs(_: Engine, c: Container, directory: Obj) -> Container:
    ref = ref_of(directory.state)
    return c.change(rootfs=Ref(Node(Scratch())) if ref is SCRATCH_REF else ref)  # a file system that is empty is one all the same


@field("Container", "directory")
async def directory(e: Engine, c: Container, path: str, expand: bool) -> Tree:
    mount, ref, inner = _locate(c, path, expand)
    found = await require_directory(e, Tree(ref, inner), path)
    return replace(found, name=mount.tree.name) if mount is not None and mount.tree is not None and inner == mount.tree.path else found


@field("Container", "file")
async def file(e: Engine, c: Container, path: str, expand: bool) -> Leaf:
    mount, ref, inner = _locate(c, path, expand)
    found = await require_file(e, Leaf(ref, inner), path)
    return replace(found, name=mount.leaf.basename()) if mount is not None and mount.leaf is not None else found


@field("Container", "exists")
async def exists(e: Engine, c: Container, path: str, do_not_follow_symlinks: bool, expand: bool, expected_type: str | None = None) -> bool:
    try:
        _, ref, inner = _locate(c, path, expand)
    except TreeError as error:
        raise TreeError(f"failed to locate path {path}: {error}") from error
    return await exists_in(e, Tree(ref), inner, expected_type, follow=not do_not_follow_symlinks)


@field("Container", "stat")
async def stat(e: Engine, c: Container, path: str, do_not_follow_symlinks: bool) -> Stat:
    _, ref, inner = _locate(c, path)
    return await stat_in(e, Tree(ref), inner, follow=not do_not_follow_symlinks, shown=c.resolve(path))


# --- mounts --------------------------------------------------------------------------------------------------------
def _mount(c: Container, path: str, expand: bool, make: Callable[[str], MountPoint]) -> Container:
    """Mount something; what was mounted at or below the target is gone, as a new mount would hide it."""
    target = c.resolve(c.expand(path) if expand else path)
    kept = tuple(m for m in c.mounts if m.target != target and not m.target.startswith(target.rstrip("/") + "/"))
    return c.change(mounts=(*kept, make(target)))


@field("Container", "withMountedDirectory")
def with_mounted_directory(_: Engine, c: Container, path: str, source: Obj, owner: str, read_only: bool, expand: bool) -> Container:
    tree: Tree = source.state
    name = tree.name or posixpath.basename(tree.path)
    tree = _owned(c, tree, owner) if owner else Tree(ref_of(tree))
    return _mount(c, path, expand, lambda t: MountPoint(target=t, kind="directory", tree=replace(tree, name=name), readonly=read_only))


def _owned(c: Container, tree: Tree, owner: str) -> Tree:
    """Give a copy of a directory with another owner, known by name in the container."""
    dest = {"src_path": tree.path, "dest": ""}
    return Tree(edit("copy_tree", SCRATCH_REF, edits.copy_tree, tree, owner=owner, users=c.rootfs, **dest))


@field("Container", "withMountedFile")
def with_mounted_file(_: Engine, c: Container, path: str, source: Obj, owner: str, expand: bool) -> Container:
    leaf = leaf_of(source)
    if owner:
        name = leaf.basename()
        dest = {"src_path": leaf.path, "basename": name, "dest": name}
        leaf = Leaf(edit("copy_file", SCRATCH_REF, edits.copy_file, leaf, owner=owner, users=c.rootfs, **dest), name)
    return _mount(c, path, expand, lambda t: MountPoint(target=t, kind="file", leaf=leaf))


@field("Container", "withMountedCache")
def with_mounted_cache(
    _: Engine, c: Container, path: str, cache: Obj, sharing: str, owner: str, expand: bool, source: Obj | None = None
) -> Container:
    volume = cache.state
    if source is not None:
        volume = replace(volume, seed=source.state)
    if sharing != "SHARED":
        volume = replace(volume, sharing=sharing)
    if owner:
        volume = replace(volume, owner=owner)
    if volume.seed is not None:
        volume = replace(volume, seed=_owned(c, volume.seed, volume.owner) if volume.owner else Tree(ref_of(volume.seed)))
    return _mount(c, path, expand, lambda t: MountPoint(target=t, kind="cache", cache=volume, owner=owner))


@field("Container", "withMountedTemp")
def with_mounted_temp(_: Engine, c: Container, path: str, expand: bool, size: int | None = None) -> Container:
    return _mount(c, path, expand, lambda t: MountPoint(target=t, kind="temp", size=size))


@field("Container", "withMountedSecret")
def with_mounted_secret(_: Engine, c: Container, path: str, source: Obj, owner: str, mode: int, expand: bool) -> Container:
    return _mount(c, path, expand, lambda t: MountPoint(target=t, kind="secret", secret=source.state, owner=owner, mode=mode))


@field("Container", "withUnixSocket")
def with_unix_socket(_: Engine, c: Container, path: str, source: Obj, owner: str, expand: bool) -> Container:
    return _mount(c, path, expand, lambda t: MountPoint(target=t, kind="socket", socket=source.state, owner=owner))


@field("Container", "withoutMount")
@field("Container", "withoutUnixSocket")
def without_mount(_: Engine, c: Container, path: str, expand: bool) -> Container:
    target = c.resolve(c.expand(path) if expand else path)
    return c.change(mounts=tuple(m for m in c.mounts if m.target != target))


@field("Container", "mounts")
def mounts(e: Engine, c: Container) -> Settled[list[str]]:
    return settled(e, c, [m.target for m in c.mounts if m.kind not in ("secret", "socket")])  # those are no mounts to Dagger
