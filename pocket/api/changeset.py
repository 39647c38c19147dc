"""`Changeset`: what makes a directory from another."""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocket.api.core import ref_of
from pocket.api.registry import field
from pocket.api.trees import view
from pocket.errors import PocketError
from pocket.graph import Leaf, Tree
from pocket.ops import edits
from pocket.ops.edit import SCRATCH_REF, edit
from pocket.store import disk
from pocket.tree import query
from pocket.tree.export import export_tree

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj
    from pocket.tree.query import Changes


_SIDES = ("ours", "base", "theirs")


@dataclass(frozen=True, slots=True)
class Changeset:
    """Two directories; the paths that differ are found when they are asked for."""

    before: Tree
    after: Tree


@dataclass(frozen=True, slots=True)
class DiffStat:
    """How one path changed, in lines; directories end with a slash and have none."""

    path: str
    kind: str
    added: int
    removed: int


async def paths(e: Engine, c: Changeset) -> Changes:
    """Give the paths that differ."""
    return query.changes(await view(e, c.before), c.before.path, await view(e, c.after), c.after.path)


@field("Query", "changeset")
def empty(_: Engine, _q: None) -> Changeset:
    return Changeset(Tree(SCRATCH_REF), Tree(SCRATCH_REF))


@field("Directory", "changes")
def changes(_: Engine, d: Tree, from_: Obj) -> Changeset:
    return Changeset(from_.state, d)


@field("Changeset", "addedPaths")
async def added_paths(e: Engine, c: Changeset) -> list[str]:
    return list((await paths(e, c)).added)


@field("Changeset", "modifiedPaths")
async def modified_paths(e: Engine, c: Changeset) -> list[str]:
    return list((await paths(e, c)).modified)


@field("Changeset", "removedPaths")
async def removed_paths(e: Engine, c: Changeset) -> list[str]:
    return list((await paths(e, c)).removed)


@field("Changeset", "isEmpty")
async def is_empty(e: Engine, c: Changeset) -> bool:
    return not any(await paths(e, c))


@field("Changeset", "before")
def before(_: Engine, c: Changeset) -> Tree:
    return c.before


@field("Changeset", "after")
def after(_: Engine, c: Changeset) -> Tree:
    return c.after


@field("Changeset", "layer")
def layer(_: Engine, c: Changeset) -> Tree:
    """Give what was added or modified, alone."""
    return Tree(edit("diff", SCRATCH_REF, edits.diff, c.before, c.after, a_path=c.before.path, b_path=c.after.path))


@field("Changeset", "sync", whole=True)
async def sync(e: Engine, o: Obj) -> str:
    await paths(e, o.state)
    return o.id


async def _applied(e: Engine, onto: Tree, c: Changeset) -> Tree:
    """Give a directory with the changes made to it."""
    found = await paths(e, c)
    ref = ref_of(onto)
    if found.removed:
        ref = edit("remove", ref, edits.remove, paths=[p.rstrip("/") for p in found.removed])
    return Tree(edit("copy_tree", ref, edits.copy_tree, layer(e, c), src_path="", dest=""))


@field("Directory", "withChanges")
async def with_changes(e: Engine, d: Tree, changes: Obj) -> Tree:
    return await _applied(e, d, changes.state)


@field("Changeset", "withChangeset")
async def with_changeset(e: Engine, c: Changeset, changes: Obj, on_conflict: str) -> Changeset:
    return await _merged(e, c, changes.state, on_conflict)


@field("Changeset", "withChangesets")
async def with_changesets(e: Engine, c: Changeset, changes: list[Obj], on_conflict: str) -> Changeset:
    for other in changes:
        c = await _merged(e, c, other.state, on_conflict)
    return c


async def _merged(e: Engine, c: Changeset, other: Changeset, on_conflict: str) -> Changeset:
    """Join two changes of one directory; files that both wrote are merged by lines, as git does it."""
    mine, theirs = await paths(e, c), await paths(e, other)
    my_files, their_files = ({p for p in (*g.added, *g.modified) if not p.endswith("/")} for g in (mine, theirs))
    both = my_files & their_files
    torn = (my_files & set(theirs.removed)) | (their_files & set(mine.removed))
    if torn and on_conflict.startswith("FAIL"):
        raise PocketError(f"conflicting changes: {', '.join(sorted(torn))}: modified by one, removed by the other")
    if both and on_conflict == "FAIL_EARLY":
        raise PocketError(f"conflicting changes: {', '.join(sorted(both))}")
    joint = Tree(edit("copy_tree", ref_of(c.before), edits.copy_tree, other.before, src_path=other.before.path, dest=""))
    first, last = (other, c) if on_conflict == "PREFER_OURS" else (c, other)
    after = await _applied(e, await _applied(e, joint, first), last)
    if on_conflict == "LEAVE_CONFLICT_MARKERS":
        for path in torn:  # what was written stays
            writer = c.after if path in my_files else other.after
            source = Leaf(writer.ref, posixpath.join(writer.path, path))
            after = Tree(edit("copy_file", after.ref, edits.copy_file, source, src_path=source.path, basename="", dest=path))
    for path in sorted(both):
        text = await _merged_file(e, path, (c.after, joint, other.after), on_conflict)
        if text is not None:
            after = Tree(edit("rewrite_file", after.ref, edits.rewrite_file, path=f"/{path}", text=text, mode=0))
    return Changeset(joint, after)


async def _merged_file(e: Engine, path: str, trees: tuple[Tree, Tree, Tree], on_conflict: str) -> str | None:
    """Give a file with the changes of both sides; None where the last one's does (no text, or the same on both sides)."""
    contents = []
    for tree in trees:
        v = await view(e, tree)
        node = v.lookup(posixpath.join(tree.path, path), follow=False)
        contents.append(v.read(node) if node is not None and node.entry.kind == "f" else b"")
    if contents[0] == contents[2]:
        return None
    work: Path = e.store.tmp()
    for name, content in zip(_SIDES, contents, strict=True):
        (work / name).write_bytes(content)
    option = {"PREFER_OURS": ["--ours"], "PREFER_THEIRS": ["--theirs"]}.get(on_conflict, [])
    done = await e.blocking(_git_merge, work, option)
    await e.blocking(disk.remove_tree, work)
    if done.returncode and (on_conflict == "FAIL" or (done.returncode > 127 and not option)):
        raise PocketError(f"conflicting changes: {path}: CONFLICT (content): Merge conflict in {path}")
    return None if done.returncode > 127 else done.stdout.decode("utf-8", "surrogateescape")


def _git_merge(work: Path, option: list[str]) -> subprocess.CompletedProcess[bytes]:
    labels = ["-L", "HEAD", "-L", "base", "-L", "theirs"]
    try:
        return subprocess.run(["git", "merge-file", "-p", *labels, *option, *_SIDES], cwd=work, capture_output=True, check=False)
    except FileNotFoundError as e:
        raise PocketError("cannot merge changes: git is not installed", hint="install git") from e


@field("Changeset", "asPatch")
async def as_patch(e: Engine, c: Changeset) -> Leaf:
    text = await _diff(e, c, "--binary")
    return Leaf(edit("write_file", SCRATCH_REF, edits.write_file, path="diff.patch", text=text, mode=0o644), "diff.patch")


@field("Changeset", "diffStats")
async def diff_stats(e: Engine, c: Changeset) -> list[DiffStat]:
    found = await paths(e, c)
    counts: dict[str, tuple[int, int]] = {}
    for line in (await _diff(e, c, "--numstat")).splitlines():
        added, removed, path = line.split("\t", 2)
        counts[path] = (int(added) if added.isdigit() else 0, int(removed) if removed.isdigit() else 0)
    groups = (("ADDED", found.added), ("MODIFIED", found.modified), ("REMOVED", found.removed))
    return sorted((DiffStat(p, kind, *counts.get(p, (0, 0))) for kind, group in groups for p in group), key=lambda s: s.path)


async def _diff(e: Engine, c: Changeset, form: str) -> str:
    work: Path = e.store.tmp()
    try:
        for name, tree in (("a", c.before), ("b", c.after)):
            await e.blocking(export_tree, await view(e, tree), tree.path, str(work / name))
        return await e.blocking(_git_diff, work, form)
    finally:
        await e.blocking(disk.remove_tree, work)


def _git_diff(work: Path, form: str) -> str:
    command = ["git", "diff", "--no-index", "--no-color", "--no-renames", "--no-prefix", form, "a", "b"]
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, check=False, env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"})
    except FileNotFoundError as e:
        raise PocketError("cannot make a patch: git is not installed", hint="install git") from e
    if done.returncode > 1:
        raise PocketError(f"cannot make a patch: {done.stderr.decode('utf-8', 'replace').strip()}")
    text = done.stdout.decode("utf-8", "surrogateescape")
    if form == "--numstat":  # the side that exists names the path: `a/x => b/x`, or one of them with /dev/null
        return "".join(f"{a}\t{r}\t{_side(p)}\n" for a, r, p in (line.split("\t", 2) for line in text.splitlines()))
    # A file on one side only is named after that side twice; git's own patches always say a/ and b/.
    return re.sub(r"(?m)^diff --git [ab]/(.+) [ab]/\1$", r"diff --git a/\1 b/\1", text)


def _side(path: str) -> str:
    left, arrow, right = path.partition(" => ")
    if not arrow:
        return path.partition("/")[2]
    head, brace, middle = left.partition("{")
    if brace:  # {a => b}/x
        return right.partition("}")[2].lstrip("/") or middle
    return (left if right == "/dev/null" else right).partition("/")[2] or head


@field("DiffStat", "path")
def stat_path(_: Engine, s: DiffStat) -> str:
    return s.path


@field("DiffStat", "kind")
def stat_kind(_: Engine, s: DiffStat) -> str:
    return s.kind


@field("DiffStat", "addedLines")
def stat_added(_: Engine, s: DiffStat) -> int:
    return s.added


@field("DiffStat", "removedLines")
def stat_removed(_: Engine, s: DiffStat) -> int:
    return s.removed


@field("DiffStat", "oldPath")
def stat_old_path(_: Engine, _s: DiffStat) -> str | None:
    return None


@field("Changeset", "export", pure=False)
async def export(e: Engine, c: Changeset, path: str) -> str:
    dest = e.host_path(path)
    found = await paths(e, c)
    for removed in found.removed:
        await e.blocking(_remove_below, dest, posixpath.normpath(removed))
    alone = layer(e, c)
    return await e.blocking(export_tree, await view(e, alone), alone.path, str(dest))


def _remove_below(root: Path, path: str) -> None:
    """Remove a path below a directory of the host, never through a link that leads out of it."""
    place = root / path
    if not place.parent.resolve().is_relative_to(root.resolve()):
        raise PocketError(f"refusing to remove {path}: it leads out of {root}")
    if place.is_dir() and not place.is_symlink():
        disk.remove_tree(place)
    else:
        place.unlink(missing_ok=True)
