"""Where we are: the commit, the event and the host CI, from GitHub's or GitLab's environment and event file, or from git alone.

Nothing here decides anything: rules are in ci/policy.py, and what hosts tell is read in ci/hosts.py. A fact that cannot be known (no git, a
shallow clone, no event file) is empty or None, never guessed.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ci import hosts
from ci.approvals import Approval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Status = Callable[[], str | None]
    """Waits for what git says of the working tree; None without git or a repository."""

# No lock is taken for a refreshed index: two runs in one tree must not meet there.
_GIT = ("git", "--no-optional-locks")
_READ_BY_GIT = {"HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "XDG_CONFIG_HOME"}  # and by what a filter of its configuration starts
Host = Literal["local", "github", "gitlab"]
Event = Literal["local", "push", "pull_request", "tag", "schedule", "manual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the commit and the event. Host-specific fields (`host`, `run_url`, `request_url`) never enter a plan."""

    host: Host = "local"
    event: Event = "local"
    commit: str = ""
    """Full hash; empty outside a git repository."""
    branch: str = ""
    base_branch: str = ""
    base_commit: str = ""
    """Of the base branch, as the host names it: what a clone without that branch still has."""
    tag: str = ""
    number: int = 0
    """Of the pull or merge request; 0 when there is none."""
    draft: bool = False
    fork: bool = False
    labels: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Label → why, from the description of the request."""
    author: str = ""
    """Who started this run, by the name that the host knows."""
    dirty: tuple[str, ...] = ()
    """Files that differ from the commit, relative to the repository root."""
    changed: tuple[str, ...] | None = None
    """Files that the event changed; None when that is not known (a shallow clone, no base)."""
    changed_note: str = ""
    """Why `changed` is not known though a base is."""
    run_url: str = ""
    request_url: str = ""
    """Of the pull or merge request."""
    repository: str = ""
    approvals: tuple[Approval, ...] = ()
    """Of the commit, where a rule asks for them (ci/approvals.py)."""

    @property
    def short(self) -> str:
        """The commit as people read it."""
        return self.commit[:7] or "no commit"


def collect(root: Path, environ: Mapping[str, str], status: Status | None = None) -> Facts:
    """Return the facts of the working tree at `root` under `environ`; `status` is what `asking` gave, when git was asked before."""
    facts = working_tree(root, status)
    if hosts.is_github(environ):
        facts = hosts.github(facts, environ)
    elif hosts.is_gitlab(environ):
        facts = hosts.gitlab(facts, environ)
    return with_changes(root, facts) if facts.event == "pull_request" and facts.base_branch else facts


def _environment() -> dict[str, str]:
    """Give what git itself reads: it is asked before the configuration says which variables are secrets."""
    return {name: value for name, value in os.environ.items() if name in _READ_BY_GIT or name.startswith(("GIT_", "LC_"))}


def git(root: Path, *arguments: str) -> str | None:
    """Return what git says, or None when there is no git, no repository, or no such thing in it."""
    try:
        done = subprocess.run([*_GIT, "-C", str(root), *arguments], env=_environment(), capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="surrogateescape")


@contextmanager
def asking(root: Path) -> Iterator[Status]:
    """Ask git for the state of the working tree, and give what waits for the answer: on other cores, git looks at files meanwhile."""
    command = [*_GIT, "-C", str(root), "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal"]
    try:
        process = subprocess.Popen(command, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        yield lambda: None
        return
    with process:
        try:
            yield lambda: _answer(process)
        finally:
            process.kill()  # nothing to one that has answered


def _answer(process: subprocess.Popen[bytes]) -> str | None:
    said, _ = process.communicate()
    return None if process.returncode else said.decode(errors="surrogateescape")


def working_tree(root: Path, status: Status | None = None) -> Facts:
    """Return what git says in one answer: commit, branch and dirty files."""
    if status is None:
        with asking(root) as asked:
            return working_tree(root, asked)
    said = status()
    if said is None:
        return Facts()
    commit, branch, dirty = "", "", []
    entries = iter(said.split("\0"))
    for entry in entries:
        if entry.startswith("# branch.oid ") and not entry.endswith("(initial)"):
            commit = entry.rpartition(" ")[2]
        elif entry.startswith("# branch.head ") and not entry.endswith("(detached)"):
            branch = entry.removeprefix("# branch.head ")
        elif entry[:1] in {"1", "u", "2", "?"}:
            dirty.append(_dirty_path(entry))
            if entry[0] == "2":  # a rename: its old name follows as an entry of its own
                next(entries, None)
    return Facts(commit=commit, branch=branch, dirty=tuple(sorted(dirty)))


def _dirty_path(entry: str) -> str:
    fields = {"1": 8, "2": 9, "u": 10, "?": 1}[entry[0]]
    return entry.split(" ", fields)[fields]


def with_changes(root: Path, facts: Facts) -> Facts:
    """Return the facts with the files that differ from where the change left its base; when that cannot be known, a note says why."""
    head = facts.commit if _is_here(root, facts.commit) else "HEAD"
    for reference in (f"origin/{facts.base_branch}", facts.base_branch, facts.base_commit):
        # Without rename detection: of a file that moved into docs/ the old name is named too.
        names = (
            git(root, "diff", "--no-renames", "--name-only", "-z", "--end-of-options", f"{reference}...{head}", "--") if reference else None
        )
        if names is not None:
            return replace(facts, changed=tuple(sorted(name for name in names.split("\0") if name)), changed_note="")
    return replace(facts, changed=None, changed_note=_unknown(root, facts.base_branch))


def _is_here(root: Path, commit: str) -> bool:
    return bool(commit) and git(root, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def _unknown(root: Path, base: str) -> str:
    shallow = git(root, "rev-parse", "--is-shallow-repository")
    if shallow is None:
        return "changed files are not known: there is no git repository here"
    if shallow.strip() == "true":
        return (
            f"changed files are not known: this clone is shallow and does not reach where the change left {base}; "
            "fetch the whole history (fetch-depth: 0 on GitHub, GIT_DEPTH: 0 on GitLab)"
        )
    return f"changed files are not known: neither origin/{base} nor {base} is here, or they share no history with this commit"
