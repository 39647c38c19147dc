"""Which paths of a tree are meant: include and exclude patterns as BuildKit reads them, globs, and .gitignore files.

Patterns are relative to the tree; absolute ones and those that leave it match nothing. An exclude beats an include. A pattern
that matches a directory takes in all below it, until a later one starting with "!" lets something out again.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from posixpath import normpath
from typing import NamedTuple

from pocket.errors import TreeError

_SPECIAL = frozenset("*?[]\\")


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the expression for one pattern: `*` and `?` stop at a slash, `**` does not, `[…]` is a class."""
    out, i, n = "", 0, len(pattern)
    if pattern.startswith("**") and not _SPECIAL.intersection(pattern[2:]) and pattern[2:3] != "/":
        return re.compile(".*" + re.escape(pattern[2:]), re.DOTALL)  # BuildKit takes this for "ends with", across slashes
    while i < n:
        c = pattern[i]
        i += 1
        if c == "*" and pattern[i : i + 1] == "*":
            i += 1
            if pattern[i : i + 1] == "/":
                i += 1
            out += ".*" if i >= n else "(.*/)?"
        elif c == "*":
            out += "[^/]*"
        elif c == "?":
            out += "[^/]"
        elif c == "[":
            end = _class_end(pattern, i)
            out += "[" + pattern[i:end].replace("[", "\\[") + "]"
            i = end + 1
        elif c == "\\" and i < n:
            out += re.escape(pattern[i])
            i += 1
        else:
            out += re.escape(c)
    try:
        return re.compile(out, re.DOTALL)
    except re.error as e:
        raise TreeError("syntax error in pattern") from e


def one_pattern(text: str) -> str:
    """Tidy a pattern that stands alone, as BuildKit does: no spaces around it, no `.` or doubled slash in it.

    Raises:
        TreeError: there is nothing in it.
    """
    text = text.strip()
    if not text:
        raise TreeError("empty pattern")
    return normpath(text)


def _class_end(pattern: str, at: int) -> int:
    start = at + 1 if pattern[at : at + 1] == "^" else at
    end = start
    while end < len(pattern) and (pattern[end] != "]" or end == start):
        end += 2 if pattern[end] == "\\" else 1
    if end >= len(pattern):
        raise TreeError("syntax error in pattern")
    return end


class _Rule(NamedTuple):
    negated: bool
    matches: Callable[[str], object]


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return compile_pattern(pattern)
    except TreeError as e:
        raise TreeError(f"{e} {pattern!r}") from e  # one of several: say which


def _rules(patterns: Iterable[str]) -> tuple[_Rule, ...]:
    out: list[_Rule] = []
    for text in patterns:
        raw = text.strip()
        negated = raw.startswith("!")
        raw = raw[1:].strip() if negated else raw
        if not raw:
            if negated:
                raise TreeError('illegal exclusion pattern: "!"')
            continue
        raw = normpath(raw)
        if raw == ".." or raw.startswith(("/", "../")):
            continue
        if raw == ".":
            out.append(_Rule(negated, lambda _: True))
        elif raw.isprintable() and not any(c in raw for c in "*?[\\"):
            out.append(_Rule(negated, raw.__eq__))
        else:
            out.append(_Rule(negated, _compiled(raw).fullmatch))
    return tuple(out)


State = tuple[tuple[bool, ...], tuple[bool, ...]]


class Decision(NamedTuple):
    """What to do with a path: keep it, look below it, and what its children need to know."""

    keep: bool
    descend: bool
    state: State


class Patterns:
    """Include and exclude patterns over one tree."""

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self.include, self.exclude = _rules(include), _rules(exclude)
        self._all = not include
        self._exceptions = any(r.negated for r in self.exclude)
        self.empty = not include and not self.exclude
        self.start: State = ((False,) * len(self.include), (False,) * len(self.exclude))

    def decide(self, path: str, parent: State) -> Decision:
        """Judge one path given its directory's state. A directory that is not kept appears all the same when something below is."""
        included, inside = (True, ()) if self._all else _apply(self.include, path, parent[0])
        excluded, outside = _apply(self.exclude, path, parent[1])
        return Decision(included and not excluded, not excluded or self._exceptions, (inside, outside))


def _apply(rules: tuple[_Rule, ...], path: str, parent: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
    hit, state = False, []
    for rule, above in zip(rules, parent, strict=True):
        match = above or bool(rule.matches(path))
        if match:
            hit = not rule.negated
        state.append(match)
    return hit, tuple(state)


class Gitignore:
    """The .gitignore files of a tree; `read` returns the text of one by its directory, or None."""

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self._read = read
        self._rules: dict[str, list[tuple[bool, bool, Callable[[str], object]]]] = {}

    def ignored(self, path: str, *, is_dir: bool) -> bool:
        """Say whether git would ignore a path whose directory is not itself ignored: the last rule of the nearest file wins."""
        at = path.rpartition("/")[0]
        while True:
            below = path[len(at) + 1 :] if at else path
            for negated, only_dirs, matches in reversed(self._of(at)):
                if (is_dir or not only_dirs) and matches(below):
                    return not negated
            if not at:
                return False
            at = at.rpartition("/")[0]

    def _of(self, directory: str) -> list[tuple[bool, bool, Callable[[str], object]]]:
        if directory not in self._rules:
            text = self._read(directory)
            self._rules[directory] = [r for r in map(_git_rule, text.splitlines()) if r] if text else []
        return self._rules[directory]


def _git_rule(line: str) -> tuple[bool, bool, Callable[[str], object]] | None:
    """Read one line of a .gitignore as gitignore(5) describes it."""
    if line.startswith("#"):
        return None
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    negated = line.startswith("!")
    pattern = line[1:] if negated else line
    only_dirs = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    if not pattern:
        return None
    anchored = "/" in pattern
    pattern = pattern.lstrip("/") if anchored else f"**/{pattern}"
    tail = pattern.endswith("/**")
    try:
        found = compile_pattern(pattern.replace("[!", "[^"))
    except TreeError:
        return None  # git takes a broken class for a pattern that matches nothing
    if tail:
        return negated, only_dirs, re.compile(found.pattern[:-2] + ".+", re.DOTALL).fullmatch
    return negated, only_dirs, found.fullmatch
