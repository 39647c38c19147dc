"""The files of the change that a run is about, for what looks at the change itself.

Of a pull or merge request, and of a branch that is not the main one, these are the files that differ from where it left its base, with
what is not committed yet. Of everything else, and where the base is not known, it is every file that git knows or would add; without git,
every file there is. A file that is gone is no part of it; contents that the change's own commits held are named apart.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ci.facts import git, with_changes
from ci.files import IGNORED, matches

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ci.config.model import Config
    from ci.facts import Facts

_LEFT_OUT = re.compile("|".join(fnmatch.translate(pattern) for pattern in IGNORED))


@dataclass(frozen=True, slots=True)
class Change:
    """Which files, and whether they are all there are."""

    files: tuple[str, ...]
    """Relative to the repository root, sorted."""
    whole: bool
    """Whether these are all files rather than a change's."""
    earlier: tuple[tuple[str, str], ...] = ()
    """Path and blob of each content that a commit of the change holds and the files do not: what was committed stays in the history."""


def change_of(root: Path, config: Config, facts: Facts) -> Change:
    """Return the files of the change."""
    if facts.changed is None and facts.event in {"local", "push"} and facts.branch and not matches(facts.branch, config.policy.main):
        base = next((name for name in config.policy.main if not set(name) & set("*?[")), "")
        facts = with_changes(root, replace(facts, base_branch=base)) if base else facts
    if facts.changed is not None:
        files = _present(root, [*facts.changed, *_uncommitted(root, facts)])
        return Change(files, whole=False, earlier=_earlier(root, facts, {*files} - {*facts.dirty}))
    listed = git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if listed is None:
        return Change(_present(root, (str(path.relative_to(root)) for path in root.rglob("*"))), whole=True)
    return Change(_present(root, listed.split("\0")), whole=True)


def _earlier(root: Path, facts: Facts, as_committed: set[str]) -> tuple[tuple[str, str], ...]:
    """Return what commits since the base held; not what the files `as_committed` hold now."""
    head = facts.commit if facts.commit and git(root, "cat-file", "-e", f"{facts.commit}^{{commit}}") is not None else "HEAD"
    options = ("--no-renames", "--raw", "--no-abbrev", "--diff-filter=d", "--format=", "-z", "--end-of-options")
    for reference in filter(None, (f"origin/{facts.base_branch}", facts.base_branch, facts.base_commit)):
        told = git(root, "log", *options, f"{reference}..{head}", "--")
        if told is not None:
            break
    else:
        return ()
    found: dict[tuple[str, str], None] = {}
    newest: set[str] = set()
    words = iter(told.split("\0"))
    for word in words:
        if not word.lstrip("\n").startswith(":"):
            continue
        _, mode, _, blob, _ = word.split()
        name = next(words)
        if mode.startswith("100") and not (name in as_committed and name not in newest):
            found[name, blob] = None
        newest.add(name)
    return tuple(sorted(found))


def _uncommitted(root: Path, facts: Facts) -> list[str]:
    """Name dirty files, and those in directories that git names as a whole because all in them is new."""
    names = [name for name in facts.dirty if not name.endswith("/")]
    if len(names) == len(facts.dirty):
        return names
    return [*names, *(git(root, "ls-files", "--others", "--exclude-standard", "-z") or "").split("\0")]


def _present(root: Path, names: Iterable[str]) -> tuple[str, ...]:
    left_out: dict[str, bool] = {}  # thousands of files share a few directories
    return tuple(sorted(name for name in {*names} if name and not _is_left_out(name, left_out) and _is_file(f"{root}/{name}")))


def _is_left_out(name: str, known: dict[str, bool]) -> bool:
    directory, _, last = name.rpartition("/")
    if directory and directory not in known:
        known[directory] = any(_LEFT_OUT.match(part) for part in directory.split("/"))
    return (bool(directory) and known[directory]) or _LEFT_OUT.match(last) is not None


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
