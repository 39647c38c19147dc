"""Walk a host directory with one stat per path, filtered, and find the directories that are not as they were.

What a directory looks like is one fingerprint over names, modes, sizes, inodes and times; only where it differs from the last
one are single files looked at.
"""

import hashlib
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pocket.errors import TreeError
from pocket.store.index import join
from pocket.tree.patterns import Gitignore, Patterns, State


class TooManyError(Exception):
    """More files are new or changed than the caller wants to deal with."""


_TOP = 0o755  # the mode of what is asked for itself, whatever the host says, as with the Dagger engine


@dataclass(slots=True)
class Folder:
    """One directory as found: `rows` (name, mode, size, inode, mtime_ns, ctime_ns joined by NUL) only when its print changed."""

    path: str
    mode: int
    mtime: int
    print: str
    rows: list[str] | None = None


@dataclass(slots=True)
class Walk:
    """Everything found, directories before what they hold. TooManyError when more than `limit` paths are in changed directories."""

    known: Mapping[str, str]
    limit: int
    folders: dict[str, Folder] = field(default_factory=dict)
    changed: int = 0

    def note(self, path: str, st: os.stat_result, rows: list[str]) -> None:
        """Take in one directory and its own files."""
        text = "\n".join(rows).encode("utf-8", "surrogateescape")
        seal = hashlib.blake2b(text, digest_size=16).hexdigest()
        same = self.known.get(path) == seal
        if not same:
            self.changed += len(rows)
            if self.changed > self.limit:
                raise TooManyError
        self.folders[path] = Folder(path, stat.S_IMODE(st.st_mode) if path else _TOP, int(st.st_mtime), seal, None if same else rows)


def git_root(path: str) -> str | None:
    """Return the nearest directory at or above `path` that has a .git."""
    here = path
    while not os.path.lexists(os.path.join(here, ".git")):
        up = os.path.dirname(here)
        if up == here:
            return None
        here = up
    return here


class _Ignored:
    """The .gitignore rules that hold below a directory, those of the repository around it included."""

    def __init__(self, root: str, repository: str) -> None:
        self._prefix = os.path.relpath(root, repository)
        self._repository = repository
        self._rules = Gitignore(self._read)

    def _read(self, directory: str) -> str | None:
        place = os.path.join(self._repository, directory, ".gitignore")
        try:
            with open(place, encoding="utf-8", errors="surrogateescape") as f:
                return f.read()
        except OSError:
            return None

    def __call__(self, path: str, *, is_dir: bool) -> bool:
        return self._rules.ignored(path if self._prefix == "." else f"{self._prefix}/{path}", is_dir=is_dir)


def walk(
    root: str,
    known: Mapping[str, str],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    gitignore: bool = False,
    limit: int = sys.maxsize,
) -> Walk:
    """Walk `root`; `known` maps directories to their last fingerprint. TreeError when it is missing or no directory."""
    try:
        st = os.stat(root)
    except OSError as e:
        raise TreeError(f"{root}: {os.strerror(e.errno or 0).lower()}") from e
    if not stat.S_ISDIR(st.st_mode):
        raise TreeError(f"path {root} is a file, not a directory")
    patterns = Patterns(include, exclude)
    repository = git_root(root) if gitignore else None
    if patterns.empty and repository is None:
        return _everything(root, st, Walk(known, limit))
    return _selected(root, st, Walk(known, limit), patterns, _Ignored(root, repository) if repository else None)


def _scan(place: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as it:
            return list(it)
    except FileNotFoundError:
        return []  # went away during the walk
    except OSError as e:
        raise TreeError(f"open {place}: {os.strerror(e.errno or 0).lower()}") from e


def _everything(root: str, st: os.stat_result, out: Walk) -> Walk:
    todo = [("", root, st)]
    while todo:
        path, place, st = todo.pop()
        rows: list[str] = []
        below: list[tuple[str, str, os.stat_result]] = []
        for e in _scan(place):
            try:
                s = e.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            kind = s.st_mode & 0o170000
            if kind == 0o040000:
                below.append((join(path, e.name), e.path, s))
            elif kind in (0o100000, 0o120000):
                rows.append(f"{e.name}\0{s.st_mode}\0{s.st_size}\0{s.st_ino}\0{s.st_mtime_ns}\0{s.st_ctime_ns}")
        out.note(path, st, rows)
        below.sort(key=lambda b: b[0], reverse=True)
        todo += below
    return out


def _selected(root: str, st: os.stat_result, out: Walk, patterns: Patterns, ignored: _Ignored | None) -> Walk:
    wanted = {""}
    todo: list[tuple[str, str, os.stat_result, State, bool]] = [("", root, st, patterns.start, True)]
    while todo:
        path, place, st, state, keep = todo.pop()
        rows: list[str] = []
        below: list[tuple[str, str, os.stat_result, State, bool]] = []
        for e in _scan(place):
            child, is_dir = join(path, e.name), e.is_dir(follow_symlinks=False)
            choice = patterns.decide(child, state)
            if not (choice.keep or (is_dir and choice.descend)) or (ignored is not None and ignored(child, is_dir=is_dir)):
                continue
            try:
                s = e.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            kind = s.st_mode & 0o170000
            if kind == 0o040000 and choice.descend:
                below.append((child, e.path, s, choice.state, choice.keep))
            elif kind in (0o100000, 0o120000):
                rows.append(f"{e.name}\0{s.st_mode}\0{s.st_size}\0{s.st_ino}\0{s.st_mtime_ns}\0{s.st_ctime_ns}")
        if keep or rows:
            _want(wanted, path)
        out.note(path, st, rows)
        below.sort(key=lambda b: b[0], reverse=True)
        todo += below
    out.folders = {p: f for p, f in out.folders.items() if p in wanted}
    return out


def _want(wanted: set[str], path: str) -> None:
    while path not in wanted:
        wanted.add(path)
        path = path.rpartition("/")[0]
