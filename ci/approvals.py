"""Approvals of commits: who, when, why; as git notes (`refs/notes/weighbridge/approvals`), so that they travel with the repository.

A note is text that whoever may push notes may write: an approval says who claims to have given it, and is no signature. It holds for one
commit; a commit after it, or a file that differs from it, is not approved.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ci.errors import UsageError
from ci.git import ask

if TYPE_CHECKING:
    from pathlib import Path

    from ci.config.model import Config
    from ci.facts import Facts

REF = "refs/notes/weighbridge/approvals"
_FETCH_SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One person's word for one commit."""

    commit: str
    by: str
    """`Name <address>`, as git knows the person."""
    when: str
    """UTC, as in `2026-11-21T18:00:00Z`."""
    why: str


def with_approvals(root: Path, config: Config, facts: Facts, *, fetching: bool = True) -> Facts:
    """Return the facts with the approvals of the commit, where a rule asks for them; to clones of CI hosts, the notes are fetched unless
    the network is to be left alone.
    """
    from ci.policy import is_hotfix

    if not facts.commit or not is_hotfix(config, facts):
        return facts
    if fetching and facts.host != "local":
        fetch(root)
    return replace(facts, approvals=read(root, facts.commit))


def read(root: Path, commit: str) -> tuple[Approval, ...]:
    """Return the approvals of a commit, the first first; lines that are none are left out."""
    from ci.facts import git

    text = git(root, "notes", f"--ref={REF}", "show", commit) or ""
    found = [_approval(line) for line in text.splitlines() if line.strip()]
    return tuple(approval for approval in found if approval and approval.commit == commit)


def fetch(root: Path, remote: str = "origin") -> bool:
    """Bring the approvals that the remote has; False when it cannot be reached, or has none."""
    command = ["git", "-C", str(root), "fetch", "--quiet", "--no-tags", remote, f"+{REF}:{REF}"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_FETCH_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def approve(root: Path, revision: str, why: str) -> Approval:
    """Record an approval of a commit by whoever git says this is.

    Raises:
        UsageError: there is no such commit, no reason, or git does not know who this is.
        InfraError: git cannot write the note.

    """
    from ci.facts import git

    reason = " ".join(why.split())
    if not reason:
        raise UsageError("an approval has a reason", hint='approve --reason "restores the service; reviewed with Ana"')
    commit = (git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") or "").strip()
    if not commit:
        raise UsageError(f"there is no commit {revision} here")
    name, address = ((git(root, "config", f"user.{key}") or "").strip() for key in ("name", "email"))
    if not name or not address:
        raise UsageError("git does not know who you are", hint="git config user.name and user.email")
    approval = Approval(commit=commit, by=f"{name} <{address}>", when=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), why=reason)
    ask(root, "notes", f"--ref={REF}", "append", "-m", json.dumps(asdict(approval), ensure_ascii=False), commit)
    return approval


def send(root: Path, remote: str) -> None:
    """Push the approvals; what others pushed meanwhile is merged first, line by line.

    Raises:
        InfraError: the remote cannot be reached, or refuses.

    """
    theirs = f"{REF}-{remote}"
    command = ["git", "-C", str(root), "fetch", "--quiet", "--no-tags", remote, f"+{REF}:{theirs}"]
    if subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0:
        ask(root, "notes", f"--ref={REF}", "merge", "--quiet", "--strategy=cat_sort_uniq", theirs)
    ask(root, "push", "--quiet", remote, f"{REF}:{REF}")


def _approval(line: str) -> Approval | None:
    try:
        data: dict[str, Any] = json.loads(line)
        return Approval(**{name: str(data[name]) for name in ("commit", "by", "when", "why")})
    except (ValueError, LookupError, TypeError):
        return None
