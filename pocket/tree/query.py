"""Questions about a tree: what is in it, what matches, what differs. All answers are in Dagger's order and form."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pocket.errors import TreeError
from pocket.store.index import join
from pocket.tree.ops import gitignore_of
from pocket.tree.patterns import compile_pattern, one_pattern
from pocket.tree.view import Node, View

_TYPES = {"REGULAR_TYPE": "f", "DIRECTORY_TYPE": "d", "SYMLINK_TYPE": "l"}
_BLOCK = 4096  # what most file systems say of a directory's size
_SHOWN = {"f": "REGULAR", "d": "DIRECTORY", "l": "SYMLINK"}


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of a path: permissions are the mode's lower nine bits, size is in bytes."""

    name: str
    size: int
    permissions: int
    file_type: str


class Match(NamedTuple):
    """One matching line (or, multi-line, several); `submatches` are (text, start, end) with byte offsets into `matched_lines`."""

    path: str
    line_number: int
    absolute_offset: int
    matched_lines: str
    submatches: tuple[tuple[str, int, int], ...]


class Changes(NamedTuple):
    """What makes a tree from another: sorted paths, directories with a slash at the end."""

    added: tuple[str, ...]
    modified: tuple[str, ...]
    removed: tuple[str, ...]


def _shown(node: Node, root: str) -> str:
    path = node.path[len(root) + 1 :] if root else node.path
    return f"{path}/" if node.is_dir else path


def entries(view: View, path: str, *, shown: str = "") -> list[str]:
    """Give the names in a directory, sorted, directories with a slash at the end."""
    node = view.lookup(path)
    if node is None:
        raise TreeError(f"{shown or path}: no such file or directory")
    if not node.is_dir:
        raise TreeError(f"path {shown or path} is a file, not a directory")
    return [f"{n.name}/" if n.is_dir else n.name for n in view.listdir(node.path)]  # sorted by name: the slash does not count


def glob(view: View, root: str, pattern: str) -> list[str]:
    """Give the paths below `root` that match a pattern, in the order of a walk; an absolute pattern matches nothing.

    Raises:
        TreeError: the pattern is empty or has a bad class.
    """
    try:
        tidy = one_pattern(pattern)
        matches = compile_pattern(tidy).fullmatch
    except TreeError as e:
        raise TreeError(f"failed to create glob pattern matcher: {e}") from e
    if tidy.startswith("!"):  # an exclusion that excludes from nothing
        return []
    skip = len(root) + 1 if root else 0
    return [_shown(n, root) for n in view.walk(root) if matches(n.path[skip:])]


def exists(view: View, path: str, expected_type: str | None = None, *, follow: bool = True) -> bool:
    """Tell whether a path exists, and with `expected_type` (an `ExistsType`) whether it is of that type."""
    node = view.lookup(path, follow=follow and expected_type != "SYMLINK_TYPE")
    return node is not None and (not expected_type or node.entry.kind == _TYPES.get(expected_type))


def stat(view: View, path: str, *, follow: bool = True) -> Stat | None:
    """Give what is known of a path; None when there is nothing."""
    node = view.lookup(path, follow=follow)
    if node is None:
        return None
    size = {"l": len(node.entry.target.encode("utf-8", "surrogateescape")), "d": _BLOCK}.get(node.entry.kind, node.entry.size)
    return Stat(posixpath.basename(node.path), size, node.entry.mode & 0o777, _SHOWN.get(node.entry.kind, "UNKNOWN"))


def find_up(view: View, root: str, name: str, start: str) -> str | None:
    """Look for `name` in the directory `start` below `root` and in those above it; give its path in the form that `start` has.

    Raises:
        TreeError: the name is empty, or the start is a file, or lies outside of the tree.
    """
    if not name:
        raise TreeError("name cannot be empty")
    here = posixpath.normpath(start or ".")
    if here.startswith("../"):
        raise TreeError(f"cannot search outside parent: {here}")
    while True:
        node = view.lookup(join(root, posixpath.normpath(f"/{here}").strip("/")))
        if node is not None and not node.is_dir:
            raise TreeError(f"path {here} is a file, not a directory")
        if node is not None and view.lookup(join(node.path, name), follow=False) is not None:
            return posixpath.normpath(posixpath.join(here, name))
        above = posixpath.dirname(here) or "."
        if above == here:
            return None
        here = above


def changes(before: View, before_root: str, after: View, after_root: str) -> Changes:
    """Compare two trees by content and attributes, not times."""
    old = {n.path[len(before_root) + 1 if before_root else 0 :]: n for n in before.walk(before_root)}
    new = {n.path[len(after_root) + 1 if after_root else 0 :]: n for n in after.walk(after_root)}
    added = sorted(_shown(new[p], after_root) for p in new.keys() - old.keys())
    removed = _topmost(sorted(_shown(old[p], before_root) for p in old.keys() - new.keys()))
    modified = sorted(
        p for p in new.keys() & old.keys()
        if not (new[p].is_dir and old[p].is_dir) and _content(new[p]) != _content(old[p])
    )  # fmt: skip
    return Changes(tuple(added), tuple(modified), tuple(removed))


def _content(node: Node) -> tuple[object, ...]:
    return tuple(node.entry._replace(mtime=0, opaque=False))


def _topmost(paths: list[str]) -> list[str]:
    """Leave out what lies in a removed directory."""
    kept: list[str] = []
    for path in paths:
        if not (kept and kept[-1].endswith("/") and path.startswith(kept[-1])):
            kept.append(path)
    return kept


def search(  # noqa: PLR0913 - the options of the API
    view: View,
    root: str,
    pattern: str,
    *,
    paths: Sequence[str] = (),
    globs: Sequence[str] = (),
    literal: bool = False,
    multiline: bool = False,
    dotall: bool = False,
    insensitive: bool = False,
    skip_ignored: bool = False,
    skip_hidden: bool = False,
    files_only: bool = False,
    limit: int | None = None,
) -> list[Match]:
    """Give the lines of text files that match a regular expression (Python's syntax; Dagger's engine uses Rust's)."""
    flags = (re.IGNORECASE if insensitive else 0) | (re.DOTALL if dotall else 0) | re.MULTILINE
    try:
        wanted = re.compile((re.escape(pattern) if literal else pattern).encode(), flags)
    except re.error as e:
        raise TreeError(f"invalid search pattern {pattern!r}: {e}") from e
    found: list[Match] = []
    for node in _searched(view, root, paths, globs, skip_ignored=skip_ignored, skip_hidden=skip_hidden):
        data = view.read(node)
        if b"\0" in data[:8192]:
            continue
        path = node.path[len(root) + 1 if root else 0 :]
        for match in _in_file(path, data, wanted, multiline=multiline):
            found.append(match)
            if limit is not None and len(found) >= limit:
                return found
            if files_only:
                break
    return found


def _searched(
    view: View, root: str, paths: Sequence[str], globs: Sequence[str], *, skip_ignored: bool, skip_hidden: bool
) -> Iterator[Node]:
    keep = [compile_pattern(g if "/" in g else f"**/{g}").fullmatch for g in globs]
    ignore = gitignore_of(view, root) if skip_ignored else None
    places = [posixpath.normpath(p).strip("/") for p in paths]
    for node in view.walk(root):
        path = node.path[len(root) + 1 if root else 0 :]
        if node.entry.kind != "f" or (keep and not any(k(path) for k in keep)):
            continue
        if places and not any(p in (".", "") or path == p or path.startswith(p + "/") for p in places):
            continue
        hidden = skip_hidden and any(part.startswith(".") for part in path.split("/"))
        if not hidden and not (ignore is not None and _ignored(ignore.ignored, path)):
            yield node


def _ignored(ignored: object, path: str) -> bool:
    assert callable(ignored)
    parts = path.split("/")
    return any(ignored("/".join(parts[:i]), is_dir=i < len(parts)) for i in range(1, len(parts) + 1))


def _in_file(path: str, data: bytes, wanted: re.Pattern[bytes], *, multiline: bool) -> Iterator[Match]:
    if multiline:
        for m in wanted.finditer(data):
            start = data.rfind(b"\n", 0, m.start()) + 1
            end = (data.find(b"\n", max(m.end() - 1, m.start())) + 1) or len(data)
            yield _match(path, data, start, end, [m])
        return
    start = 0
    while start < len(data):
        end = (data.find(b"\n", start) + 1) or len(data)
        hits = list(wanted.finditer(data, start, end - 1 if data[end - 1 : end] == b"\n" else end))
        if hits:
            yield _match(path, data, start, end, hits)
        start = end


def _match(path: str, data: bytes, start: int, end: int, hits: list[re.Match[bytes]]) -> Match:
    number = data.count(b"\n", 0, start) + 1
    subs = tuple((h[0].decode("utf-8", "replace"), h.start() - start, h.end() - start) for h in hits)
    return Match(path, number, start, data[start:end].decode("utf-8", "replace"), subs)
