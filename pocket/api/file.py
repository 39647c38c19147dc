"""`File`: one file of a snapshot."""

from __future__ import annotations

import io
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pocket.api.registry import field
from pocket.api.trees import read_bytes, view
from pocket.errors import TreeError
from pocket.graph import Leaf, Tree
from pocket.ops import edits
from pocket.ops.edit import SCRATCH_REF, edit
from pocket.tree import query
from pocket.tree.digest import dagger_file_digest
from pocket.tree.export import export_file
from pocket.tree.text import replaced

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj
    from pocket.tree.query import Match, Stat


@field("File", "contents")
async def contents(e: Engine, f: Leaf, offset_lines: int | None = None, limit_lines: int | None = None) -> str:
    data = read_bytes(await view(e, f), f.path)
    if offset_lines is not None or limit_lines is not None:
        lines = io.BytesIO(data).readlines()  # unlike splitlines: a lone carriage return ends no line
        start = max(offset_lines or 0, 0)
        data = b"".join(lines[start : None if limit_lines is None or limit_lines < 0 else start + limit_lines])
    return data.decode("utf-8", "replace")


@field("File", "size")
async def size(e: Engine, f: Leaf) -> int:
    node = (await view(e, f)).lookup(f.path)
    return node.entry.size if node else 0


@field("File", "name")
def name(_: Engine, f: Leaf) -> str:
    return f.basename()


@field("File", "stat")
async def stat(e: Engine, f: Leaf) -> Stat | None:
    return query.stat(await view(e, f), f.path)


@field("File", "digest")
async def digest(e: Engine, f: Leaf, exclude_metadata: bool) -> str:
    return dagger_file_digest(await view(e, f), f.path, exclude_metadata=exclude_metadata)


@field("File", "withName")
def with_name(_: Engine, f: Leaf, name: str) -> Leaf:
    if "/" in name:
        raise TreeError(f'file name "{name}" must not contain a directory')
    if name in ("", ".", ".."):
        raise TreeError(f"rename {f.basename()} {name}: file exists")
    return _alone(replace(f, name=name))


def _alone(f: Leaf, **options: Any) -> Leaf:
    """Give the file as the only one of a directory, under its name."""
    name = f.basename()
    return Leaf(edit("copy_file", SCRATCH_REF, edits.copy_file, f, src_path=f.path, basename=name, dest=name, **options), name)


@field("File", "withTimestamps")
def with_timestamps(_: Engine, f: Leaf, timestamp: int) -> Leaf:
    alone = _alone(f)
    return Leaf(edit("timestamps", SCRATCH_REF, edits.timestamps, Tree(alone.ref), timestamp=timestamp), alone.path)


@field("File", "chown")
def chown(_: Engine, f: Leaf, owner: str) -> Leaf:
    if not owner:
        raise TreeError('invalid owner ""')
    return _alone(f, owner=owner)


@field("File", "withReplaced")
async def with_replaced(
    e: Engine,
    f: Leaf,
    search: str,
    replacement: str,
    all: bool,  # noqa: A002 - the API's name
    first_from: int | None = None,
) -> Leaf:
    v = await view(e, f)
    node = v.lookup(f.path)
    text = replaced(read_bytes(v, f.path).decode("utf-8", "surrogateescape"), search, replacement, every=all, first_from=first_from)
    mode = node.entry.mode if node else 0o644
    return Leaf(edit("write_file", SCRATCH_REF, edits.write_file, path=f.basename(), text=text, mode=mode), f.basename())


@field("File", "search")
async def search(
    e: Engine, f: Leaf, pattern: str, literal: bool, multiline: bool, dotall: bool, insensitive: bool, files_only: bool,
    limit: int | None = None,
) -> list[Match]:  # fmt: skip
    options: dict[str, Any] = {"literal": literal, "multiline": multiline, "dotall": dotall, "insensitive": insensitive, "limit": limit}
    parent, base = posixpath.split(f.path)
    return query.search(await view(e, f), parent, pattern, paths=[base], files_only=files_only, **options)


@field("File", "sync", whole=True)
async def sync(e: Engine, o: Obj) -> str:
    read_node = (await view(e, o.state)).lookup(o.state.path)
    assert read_node is not None
    return o.id


@field("File", "export", pure=False)
async def export(e: Engine, f: Leaf, path: str, allow_parent_dir_path: bool) -> str:
    v = await view(e, f)
    return await e.blocking(export_file, v, f.path, str(e.host_path(path)), allow_parent_dir_path=allow_parent_dir_path)
