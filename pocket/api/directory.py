"""`Directory`: a tree of files, changed by making new ones."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from pocket.api import core
from pocket.api.container_image import from_
from pocket.api.core import leaf_of, ref_of
from pocket.api.registry import field
from pocket.api.trees import exists_in, inside, require_directory, require_file, stat_in, view
from pocket.errors import PocketError, TreeError
from pocket.graph import Leaf, Tree
from pocket.ops import edits
from pocket.ops.edit import SCRATCH_REF, Apply, edit
from pocket.tree import query
from pocket.tree.digest import dagger_digest
from pocket.tree.export import export_tree

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj
    from pocket.tree.query import Match, Stat
    from pocket.tree.view import View
    from pocket.values import Container


def _edit(tree: Tree, kind: str, apply: Apply, *sources: Tree | Leaf, **options: Any) -> Tree:
    return Tree(edit(kind, ref_of(tree), apply, *sources, **options), name=_basename(tree))


def _basename(tree: Tree) -> str:
    return tree.name or posixpath.basename(tree.path)


def _rooted(path: str) -> str:
    """Give a path as seen from the root of the directory, above which `..` does not lead."""
    return path if path.startswith("/") else f"/{path}"


# --- making --------------------------------------------------------------------------------------------------------
@field("Directory", "withNewFile")
def with_new_file(_: Engine, d: Tree, path: str, contents: str, permissions: int) -> Tree:
    return _edit(d, "rewrite_file", edits.rewrite_file, path=_rooted(path), text=contents, mode=permissions)


@field("Directory", "withNewDirectory")
def with_new_directory(_: Engine, d: Tree, path: str, permissions: int) -> Tree:
    wanted = posixpath.normpath(path)
    if wanted.startswith("../"):
        raise TreeError(f"cannot create directory outside parent: {wanted}")
    return _edit(d, "make_dirs", edits.make_dirs, path=_rooted(wanted), mode=permissions or 0o755)


@field("Directory", "withDirectory")
def with_directory(
    _: Engine, d: Tree, path: str, source: Obj, exclude: list[str], include: list[str], gitignore: bool, owner: str,
    permissions: int | None = None,
) -> Tree:  # fmt: skip
    src: Tree = source.state
    filters: dict[str, Any] = {"include": include, "exclude": exclude, "gitignore": gitignore}
    options: dict[str, Any] = {"src_path": src.path, "dest": _rooted(path), "permissions": permissions, **filters}
    return _edit(d, "copy_tree", edits.copy_tree, src, owner=owner, **options)


@field("Directory", "withFile")
def with_file(_: Engine, d: Tree, path: str, source: Obj, owner: str, permissions: int | None = None) -> Tree:
    leaf = leaf_of(source)
    options: dict[str, Any] = {"src_path": leaf.path, "basename": leaf.basename(), "dest": _rooted(path), "mode": permissions}
    return _edit(d, "copy_file", edits.copy_file, leaf, owner=owner, **options)


@field("Directory", "withFiles")
def with_files(e: Engine, d: Tree, path: str, sources: list[Obj], permissions: int | None = None) -> Tree:
    for source in sources:
        d = with_file(e, d, posixpath.join(path, leaf_of(source).basename()), source, "", permissions)
    return d


@field("Directory", "withSymlink")
def with_symlink(_: Engine, d: Tree, target: str, link_name: str) -> Tree:
    return _edit(d, "symlink", edits.symlink, path=_rooted(link_name), target=target)


@field("Directory", "withoutFile")
@field("Directory", "withoutDirectory")
def without_path(_: Engine, d: Tree, path: str) -> Tree:
    return _edit(d, "remove", edits.remove, paths=[_rooted(path)])


@field("Directory", "withoutFiles")
def without_files(_: Engine, d: Tree, paths: list[str]) -> Tree:
    return _edit(d, "remove", edits.remove, paths=[_rooted(path) for path in paths])


@field("Directory", "withTimestamps")
def with_timestamps(_: Engine, d: Tree, timestamp: int) -> Tree:
    return Tree(edit("timestamps", SCRATCH_REF, edits.timestamps, Tree(ref_of(d)), timestamp=timestamp))


@field("Directory", "chown")
def chown(_: Engine, d: Tree, path: str, owner: str) -> Tree:
    if not owner:
        raise TreeError('invalid owner ""')
    return _edit(d, "chown", edits.chown, path=path, owner=owner)


@field("Directory", "withError")
def with_error(_: Engine, d: Tree, err: str) -> Tree:
    if err:
        raise PocketError(err)
    return d


@field("Directory", "filter")
def filter_(_: Engine, d: Tree, exclude: list[str], include: list[str], gitignore: bool) -> Tree:
    options: dict[str, Any] = {"path": d.path, "include": include, "exclude": exclude, "gitignore": gitignore}
    return Tree(edit("subtree", SCRATCH_REF, edits.subtree, d, **options))


@field("Directory", "diff")
def diff(_: Engine, d: Tree, other: Obj) -> Tree:
    right: Tree = other.state
    return Tree(edit("diff", SCRATCH_REF, edits.diff, d, right, a_path=d.path, b_path=right.path))


@field("Directory", "withPatch")
def with_patch(_: Engine, d: Tree, patch: str) -> Tree:
    return _edit(d, "patch", edits.patch, text=patch)


@field("Directory", "withPatchFile")
async def with_patch_file(e: Engine, d: Tree, patch: Obj) -> Tree:
    leaf = leaf_of(patch)
    v = await view(e, leaf)
    node = v.lookup(leaf.path)
    assert node is not None
    return _edit(d, "patch", edits.patch, text=v.real(node).read_text())


# --- looking in ----------------------------------------------------------------------------------------------------
@field("Directory", "directory")
async def directory(e: Engine, d: Tree, path: str) -> Tree:
    return await require_directory(e, Tree(d.ref, inside(d, path)), path)


@field("Directory", "file")
async def file(e: Engine, d: Tree, path: str) -> Leaf:
    return await require_file(e, Leaf(d.ref, inside(d, path)), path)


@field("Directory", "entries")
async def entries(e: Engine, d: Tree, path: str | None = None) -> list[str]:
    return query.entries(await view(e, d), inside(d, path or ""), shown=path or d.path)


@field("Directory", "glob")
async def glob(e: Engine, d: Tree, pattern: str) -> list[str]:
    return query.glob(await view(e, d), d.path, pattern)


@field("Directory", "exists")
async def exists(e: Engine, d: Tree, path: str, do_not_follow_symlinks: bool, expected_type: str | None = None) -> bool:
    return bool(path) and await exists_in(e, d, path, expected_type, follow=not do_not_follow_symlinks)


@field("Directory", "stat")
async def stat(e: Engine, d: Tree, path: str, do_not_follow_symlinks: bool) -> Stat:
    if not path:
        raise TreeError("stat : no such file or directory")
    return await stat_in(e, d, path, follow=not do_not_follow_symlinks)


@field("Stat", "name")
def stat_name(_: Engine, s: Stat) -> str:
    return s.name


@field("Stat", "size")
def stat_size(_: Engine, s: Stat) -> int:
    return s.size


@field("Stat", "permissions")
def stat_permissions(_: Engine, s: Stat) -> int:
    return s.permissions


@field("Stat", "fileType")
def stat_type(_: Engine, s: Stat) -> str:
    return s.file_type


@field("Directory", "name")
async def name(_: Engine, d: Tree) -> str:
    return _basename(d) + "/"


@field("Directory", "digest")
async def digest(e: Engine, d: Tree) -> str:
    return dagger_digest(await view(e, d), d.path)


@field("Directory", "findUp")
async def find_up(e: Engine, d: Tree, name: str, start: str) -> str | None:
    return query.find_up(await view(e, d), d.path, name, start)


@field("Directory", "search")
async def search(  # noqa: PLR0913, PLR0917 - the API's arguments
    e: Engine, d: Tree, pattern: str, paths: list[str], globs: list[str], literal: bool, multiline: bool, dotall: bool,
    insensitive: bool, skip_ignored: bool, skip_hidden: bool, files_only: bool, limit: int | None = None,
) -> list[Match]:  # fmt: skip
    options: dict[str, Any] = {"literal": literal, "multiline": multiline, "dotall": dotall, "insensitive": insensitive, "limit": limit}
    flags = {"skip_ignored": skip_ignored, "skip_hidden": skip_hidden, "files_only": files_only}
    return query.search(await view(e, d), d.path, pattern, paths=paths, globs=globs, **options, **flags)


@field("SearchResult", "filePath")
def match_path(_: Engine, m: Match) -> str:
    return m.path


@field("SearchResult", "lineNumber")
def match_line(_: Engine, m: Match) -> int:
    return m.line_number


@field("SearchResult", "absoluteOffset")
def match_offset(_: Engine, m: Match) -> int:
    return m.absolute_offset


@field("SearchResult", "matchedLines")
def match_lines(_: Engine, m: Match) -> str:
    return m.matched_lines


@field("SearchResult", "submatches")
def match_submatches(_: Engine, m: Match) -> list[tuple[str, int, int]]:
    return list(m.submatches)


@field("SearchSubmatch", "text")
def submatch_text(_: Engine, s: tuple[str, int, int]) -> str:
    return s[0]


@field("SearchSubmatch", "start")
def submatch_start(_: Engine, s: tuple[str, int, int]) -> int:
    return s[1]


@field("SearchSubmatch", "end")
def submatch_end(_: Engine, s: tuple[str, int, int]) -> int:
    return s[2]


@field("Directory", "sync", whole=True)
async def sync(e: Engine, o: Obj) -> str:
    await require_directory(e, o.state, o.state.path)
    return o.id


@field("Directory", "export", pure=False)
async def export(e: Engine, d: Tree, path: str, wipe: bool) -> str:
    dest = e.host_path(path)
    return await e.blocking(export_tree, await view(e, d), d.path, str(dest), wipe=wipe)


@field("Directory", "dockerBuild")
async def docker_build(
    e: Engine, d: Tree, dockerfile: str, build_args: list[dict[str, str]], target: str, secrets: list[Obj], no_init: bool,
    platform: str | None = None, ssh: Obj | None = None,
) -> Container:  # fmt: skip
    from pocket.dockerfile.build import Build, Request  # the parser brings a Go runtime: only for those who build
    from pocket.dockerfile.parse import ignore_patterns, parse

    if ssh is not None:
        raise PocketError("not supported by pocket: dockerBuild(ssh) — use a Dagger engine")
    empty: Container = core.container(e, None, platform)
    v = await view(e, d)
    text = _text(v, inside(d, dockerfile))
    if text is None:
        raise TreeError(f"failed to read dockerfile: {dockerfile}: no such file or directory")
    ignored = _text(v, inside(d, f"{dockerfile}.dockerignore")) or _text(v, inside(d, ".dockerignore"))
    context = filter_(e, d, ignore_patterns(ignored), [], gitignore=False) if ignored else d

    async def pull(reference: str) -> Container:
        return await from_(e, empty, reference)

    request = Request(
        file=parse(text), context=context, pull=pull, empty=empty, no_init=no_init,
        args={a["name"]: a["value"] for a in build_args}, secrets={s.state.name: s.state for s in secrets},
    )  # fmt: skip
    return await Build(request).target(target)


def _text(v: View, path: str) -> str | None:
    node = v.lookup(path)
    return v.read(node).decode("utf-8", "replace") if node is not None and node.entry.kind == "f" else None
