"""The branches of a clone and how they stand to the main branch: age, distance, merged since when; and removing merged ones after a notice.

A notice is a git note on the branch's last commit (`refs/notes/weighbridge/notices`): a branch that moves on has none any more. Branches
that were squashed into the main branch do not look merged to git, and are left alone.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ci.errors import InfraError
from ci.git import ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ci.config.model import PolicyConfig
    from ci.facts import Facts

NOTICES = "refs/notes/weighbridge/notices"
_NOBODY = ("-c", "user.name=weighbridge", "-c", "user.email=weighbridge@localhost")  # a runner's git often knows no name
HOUR, DAY = 3600, 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A branch and how it stands to main; times are seconds since 1970."""

    name: str
    reference: str
    commit: str
    changed: int
    """When its last commit was made."""
    began: int
    """When its first commit that main does not have was made; its last one when main has them all."""
    ahead: int
    behind: int
    merged: int
    """When main took it in; 0 when it has not."""
    noticed: int
    """When its removal was announced; 0 when it was not."""

    def advice(self, policy: PolicyConfig, now: float) -> str:
        """Say what is to be done about it; empty when nothing is."""
        if self.merged:
            days = int(now - self.merged) // DAY
            return f"merged {days} days ago: remove it" if days >= policy.merged_days else ""
        old = now - self.began > policy.stale_hours * HOUR
        parts = [f"{age(now - self.began)} old"] if old else []
        parts += [f"{self.behind} commit{'s' if self.behind > 1 else ''} behind"] if self.behind and old else []
        return f"{' and '.join(parts)}: rebase it and merge what is ready" if parts else ""

    def may_go(self, policy: PolicyConfig, now: float) -> bool:
        """Tell whether its notice has run out."""
        return bool(self.merged and self.noticed) and now - self.noticed >= policy.notice_days * DAY


def age(seconds: float) -> str:
    """Write an age as people say it."""
    return f"{int(seconds // HOUR)} h" if seconds < 2 * DAY else f"{int(seconds // DAY)} days"


def branches(root: Path, main: str, *, remote: str = "") -> list[Branch]:
    """Return the branches of this clone, or those of a remote as they were fetched last, the longest untouched first.

    Raises:
        InfraError: git does not answer.

    """
    prefix = f"refs/remotes/{remote}/" if remote else "refs/heads/"
    form = "%(refname)%00%(objectname)%00%(committerdate:unix)%00%(worktreepath)"
    lines = ask(root, "for-each-ref", f"--format={form}", prefix.rstrip("/")).splitlines()
    found = []
    for line in lines:
        reference, commit, changed, worktree = line.split("\0")
        name = reference.removeprefix(prefix)
        if name in {main, "HEAD"} or worktree:
            continue
        found.append(_branch(root, prefix + main, name=name, reference=reference, commit=commit, changed=int(changed)))
    return sorted(found, key=lambda branch: (branch.changed, branch.name))


def notice(root: Path, branch: Branch, now: float) -> None:
    """Announce that a branch will be removed."""
    said = json.dumps({"branch": branch.reference, "when": int(now)})
    ask(root, "notes", f"--ref={NOTICES}", "append", "-m", said, branch.commit, options=_NOBODY)


def remove(root: Path, branch: Branch, *, remote: str = "") -> None:
    """Remove a branch, if it is still where it was when it was looked at.

    Raises:
        InfraError: it has moved, or the remote refuses.

    """
    if remote:
        ask(root, "push", "--quiet", f"--force-with-lease={branch.name}:{branch.commit}", remote, f":refs/heads/{branch.name}")
    else:
        ask(root, "update-ref", "-d", branch.reference, branch.commit)


def advice(root: Path, policy: PolicyConfig, facts: Facts) -> list[str]:
    """Return advice about the branch that is checked out: how old it is, and how far behind main; empty where git cannot tell."""
    if not facts.branch or not facts.commit or facts.event in {"tag", "schedule"}:
        return []
    main = facts.base_branch or policy.main[0]
    if facts.branch == main:
        return []
    for reference in (f"refs/remotes/origin/{main}", f"refs/heads/{main}"):
        try:
            here = _branch(root, reference, name=facts.branch, reference="HEAD", commit=facts.commit, changed=0)
        except (InfraError, ValueError):
            continue
        said = here.advice(policy, time.time()) if not here.merged else ""
        return [f"{here.name} is {said}"] if said else []
    return []


def _branch(root: Path, main: str, *, name: str, reference: str, commit: str, changed: int) -> Branch:
    ahead, behind = map(int, ask(root, "rev-list", "--left-right", "--count", f"{commit}...{main}").split())
    own = ask(root, "log", "--reverse", "--format=%ct", f"{main}..{commit}").split()
    return Branch(
        name=name,
        reference=reference,
        commit=commit,
        changed=changed,
        began=int(own[0]) if own else changed,
        ahead=ahead,
        behind=behind,
        merged=_merged(root, main, commit) if not ahead and changed else 0,
        noticed=max(_notices(root, commit, reference), default=0),
    )


def _merged(root: Path, main: str, commit: str) -> int:
    """Return when main took a commit in: the time of the first commit of main itself that has it."""
    after = ask(root, "rev-list", "--first-parent", "--ancestry-path", f"{commit}..{main}").split()
    first = after[-1] if after else commit
    return int(ask(root, "show", "--no-patch", "--format=%ct", first).split()[-1])


def _notices(root: Path, commit: str, reference: str) -> Iterator[int]:
    from ci.facts import git

    for line in (git(root, "notes", f"--ref={NOTICES}", "show", commit) or "").splitlines():
        try:
            said = json.loads(line)
            if said["branch"] == reference:
                yield int(said["when"])
        except (ValueError, LookupError, TypeError):
            continue
