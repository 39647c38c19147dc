"""The tree operations in the form that `pocket.ops.edit` applies: store, base, further snapshots, JSON options."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from pocket.errors import TreeError
from pocket.store.layer import Layer, Snapshot
from pocket.store.store import Store
from pocket.tree import ops
from pocket.tree.patch import apply_patch
from pocket.tree.view import View

Layers = tuple[Layer, ...]
Owner = tuple[int, int] | None


def write_file(store: Store, base: Snapshot, *, path: str, text: str, mode: int | None, owner: Owner = None) -> Layers:
    """Write a text (UTF-8; surrogates stand for the bytes they came from)."""
    return ops.write_file(store, base, path, text.encode("utf-8", "surrogateescape"), 0o644 if mode is None else mode, owner)


def new_file(store: Store, base: Snapshot, *, dest: str, text: str, mode: int, owner: Owner = None) -> Layers:
    """Put a new file somewhere, as if it were copied from elsewhere: the place of a symlink is its own, a directory takes it in."""
    if not dest.strip("/."):
        raise TreeError(f"failed to create new file {dest or '.'}: is a directory")
    return ops.new_file(store, base, dest, text.encode("utf-8", "surrogateescape"), mode, owner)


def rewrite_file(store: Store, base: Snapshot, *, path: str, text: str, mode: int) -> Layers:
    """Write a text as a shell's `>` does: a file that is there keeps its mode and owner, a new one gets the permissions (0 means 0644)."""
    try:
        there = View(base).lookup(path) if base.layers else None
    except TreeError:
        there = None  # what is in the way is told by the writing
    data = text.encode("utf-8", "surrogateescape")
    if there is None:
        return ops.write_file(store, base, path, data, mode & 0o777 or 0o644)
    return ops.write_file(store, base, path, data, there.entry.mode, (there.entry.uid, there.entry.gid))


def make_dirs(store: Store, base: Snapshot, *, path: str, mode: int) -> Layers:
    """Make a directory and those above it that are missing, all with the same permissions."""
    return ops.make_dir(store, base, path, mode & 0o777, parents_mode=mode & 0o777)


def make_dir(store: Store, base: Snapshot, *, path: str, mode: int, owner: Owner = None) -> Layers:
    """Make a directory; those above it that are made get the same owner."""
    return ops.make_dir(store, base, path, mode, owner)


def copy_tree(store: Store, base: Snapshot, src: Snapshot, *, permissions: int | None = None, **options: Any) -> Layers:
    """Copy a directory; permissions are those of everything copied."""
    if permissions is not None:
        options["mode"] = lambda _mode, _is_dir: permissions & 0o7777
    return ops.copy_tree(store, base, src, **options)


def copy_file(
    store: Store, base: Snapshot, src: Snapshot, *, src_path: str, dest: str, basename: str, mode: int | None = None, owner: Owner = None
) -> Layers:
    """Copy a file; onto a directory it gets `basename`."""
    there = View(base).lookup(dest) if base.layers else None
    if dest.endswith(("/", "/.")) or dest in ("", ".") or (there is not None and there.is_dir):
        dest = posixpath.join(dest, basename)
        if there is not None and (below := View(base).lookup(dest)) is not None and below.is_dir:
            base = Snapshot((*base.layers, *(gone := ops.remove(store, base, [f"/{dest.lstrip('/')}"], globs=False))), base.key)
            return (*gone, *ops.copy_file(store, base, src, src_path, dest=dest, mode=mode, owner=owner))
    return ops.copy_file(store, base, src, src_path, dest=dest, mode=mode, owner=owner)


def symlink(store: Store, base: Snapshot, *, path: str, target: str) -> Layers:
    """Make a symlink."""
    return ops.symlink(store, base, target, path)


def remove(store: Store, base: Snapshot, *, paths: Sequence[str]) -> Layers:
    """Remove paths and what patterns match."""
    return ops.remove(store, base, paths)


def remove_path(store: Store, base: Snapshot, *, path: str) -> Layers:
    """Remove one path or what a pattern matches."""
    return ops.remove(store, base, [path])


def chown(store: Store, base: Snapshot, *, path: str, owner: tuple[int, int]) -> Layers:
    """Change owners."""
    return ops.chown(store, base, path, owner)


def timestamps(store: Store, base: Snapshot, src: Snapshot, *, timestamp: int) -> Layers:
    """Set all modification times."""
    del base  # the result stands alone
    return ops.timestamps(store, src, timestamp)


def subtree(store: Store, base: Snapshot, src: Snapshot, *, path: str, **filters: Any) -> Layers:
    """Take out (the filtered content of) one directory."""
    del base  # the result stands alone
    return ops.subtree(store, src, path, **filters)


def diff(store: Store, base: Snapshot, a: Snapshot, b: Snapshot, *, a_path: str, b_path: str) -> Layers:
    """Take out what `b` adds to or changes in `a`."""
    del base  # the result stands alone
    return ops.diff(store, a, b, a_path=a_path, b_path=b_path)


def patch(store: Store, base: Snapshot, *, text: str) -> Layers:
    """Apply a patch in git's format."""
    return apply_patch(store, base, text)
