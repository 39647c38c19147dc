"""Digests of files by content, made fast by a cache of what `stat` said when a file was last read.

A cached digest is trusted when inode, size and both times are what they were, and the file had been left alone for a while when it was
read: a file written twice within one tick of the clock can keep its times. Modification times are never part of a digest.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import re
import stat
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ci.paths import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Matcher = Callable[[str], re.Match[str] | None]

IGNORED = (
    ".coverage",
    ".coverage.*",
    ".git",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    ".weighbridge",
    "*.egg-info",
    "*.pyc",
    "*.swp",
    "*~",
    ".DS_Store",
    "__pycache__",
    "node_modules",
)
"""Names that never count, at any depth: what tools leave behind. Stages exclude the same from what they hand to the engine."""

# Linux stamps files with the time of the last timer tick, at worst 10 ms ago; network file systems may be coarser.
_RACY_NS = 100_000_000
_Entry = tuple[int, int, int, int, str, int]


class Digests:
    """The digests of the files below one root; `save` keeps them for the next run."""

    def __init__(self, root: Path, kept: Path | None) -> None:
        self._root, self._kept = str(root), kept
        self._known: dict[str, _Entry] = {}
        self._changed = False
        if kept:
            try:
                self._known = {name: tuple(entry) for name, entry in json.loads(kept.read_bytes()).items()}
            except (OSError, ValueError, AttributeError, TypeError):
                self._known = {}

    def of(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> dict[str, str]:
        """Return path → digest for every file that the patterns name, sorted by path."""
        names = {name for pattern in patterns for name in self._expand(pattern)}
        if exclude:
            refused = _matcher(tuple(exclude))
            names = {name for name in names if not refused(name + "/")}
        return {name: self._digest(name) for name in sorted(names)}

    def named(self, names: Sequence[str]) -> dict[str, str]:
        """Return path → digest of these very files, none of which is a pattern; those that are gone are left out."""
        found = {}
        for name in sorted(names):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found[name] = self._digest(name)
        return found

    def tree(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> str:
        """Return one digest over paths and contents of the files that the patterns name."""
        return digest_of(self.of(patterns, exclude))

    def save(self) -> None:
        """Keep what was learned; a cache that cannot be written costs time, nothing else."""
        if self._kept and self._changed:
            try:
                write_atomically(self._kept, json.dumps(self._known, separators=(",", ":")).encode())
            except OSError:
                return

    def _expand(self, pattern: str) -> Iterator[str]:
        pattern = pattern.rstrip("/") or "."
        plain = [part for part in pattern.split("/") if part != "."]
        fixed = next((index for index, part in enumerate(plain) if _is_glob(part)), len(plain))
        start = "/".join(plain[:fixed])
        if fixed == len(plain):
            yield from self._below(start)
            return
        matches = _matcher(("/".join(plain),))
        yield from (name for name in self._below(start) if matches(name + "/"))

    def _below(self, name: str) -> Iterator[str]:
        path = f"{self._root}/{name}" if name else self._root
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return
        if not stat.S_ISDIR(mode):
            yield name
            return
        yield from _walk(path, f"{name}/" if name else "")

    def _digest(self, name: str) -> str:
        path = f"{self._root}/{name}"
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            return f"link:{Path(path).readlink()}"
        suffix = "+x" if found.st_mode & 0o111 else ""
        seen = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._known.get(name)
        if known and known[:4] == seen and max(seen[2:]) + _RACY_NS < known[5]:
            return known[4] + suffix
        read_at = time.time_ns()
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[name] = (*seen, digest, read_at)
        self._changed = True
        return digest + suffix


def digest_of(value: object) -> str:
    """Return the digest of a JSON value; the order of mappings does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _is_glob(part: str) -> bool:
    return any(character in part for character in "*?[")


@lru_cache(maxsize=1)
def _ignored() -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in IGNORED))


def _walk(directory: str, prefix: str) -> Iterator[str]:
    ignored = _ignored()
    with os.scandir(directory) as entries:
        for entry in entries:
            if ignored.match(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                yield prefix + entry.name


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether a path relative to the root is what one of the patterns names, or lies below it."""
    if "" in patterns or "." in patterns:
        return True
    plain, globs = _kinds(tuple(patterns))
    if plain and not plain.isdisjoint((name, *(name[:at] for at, character in enumerate(name) if character == "/"))):
        return True
    return globs is not None and globs(name + "/") is not None


@lru_cache(maxsize=256)
def _kinds(patterns: tuple[str, ...]) -> tuple[frozenset[str], Matcher | None]:
    """Return the paths among these patterns, of which there may be a thousand, and what finds one of the others in a path."""
    relative = [pattern.removeprefix("./") for pattern in patterns]
    globs = tuple(pattern for pattern in relative if _is_glob(pattern))
    plain = frozenset(pattern.strip("/") for pattern in relative if not _is_glob(pattern))
    return plain, _matcher(globs) if globs else None


@lru_cache(maxsize=256)
def _matcher(patterns: tuple[str, ...]) -> Matcher:
    """Return what finds one of these patterns in a path with a slash at its end: one search, however many patterns there are."""
    return re.compile("|".join(_regex(pattern) for pattern in patterns)).match


def _regex(pattern: str) -> str:
    """Translate a pattern with `*`, `?`, `[…]` within a part and `**` across parts; it also names everything below what it matches."""
    text = ""
    for part in pattern.strip("/").split("/"):
        text += "(?:[^/]+/)*" if part == "**" else _part(part) + "/"
    return text


def _part(part: str) -> str:
    text = ""
    rest = part
    while rest:
        character, rest = rest[0], rest[1:]
        if character == "*":
            text += "[^/]*"
        elif character == "?":
            text += "[^/]"
        elif character == "[" and "]" in rest[1:]:
            inside, rest = rest[: rest.index("]", 1)], rest[rest.index("]", 1) + 1 :]
            text += "[" + inside.replace("\\", "\\\\").replace("!", "^", 1 if inside.startswith("!") else 0) + "]"
        else:
            text += re.escape(character)
    return text
