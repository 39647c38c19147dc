"""Where we are: the commit, the event and the host CI, from GitHub's or GitLab's environment and event file, or from git alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the commit and the event. Host-specific fields (`host`, `run_url`) never enter a plan."""

    host: Literal["local", "github", "gitlab"] = "local"
    event: Literal["local", "push", "pull_request", "tag", "schedule", "manual"] = "local"
    commit: str = ""
    """Full hash; empty outside a git repository."""
    branch: str = ""
    base_branch: str = ""
    tag: str = ""
    number: int = 0
    """Of the pull or merge request; 0 when there is none."""
    draft: bool = False
    fork: bool = False
    labels: tuple[str, ...] = ()
    author: str = ""
    dirty: tuple[str, ...] = ()
    """Files that differ from the commit, relative to the repository root."""
    changed: tuple[str, ...] | None = None
    """Files that the event changed; None when that is not known (a shallow clone, no base)."""
    run_url: str = ""
    repository: str = ""

    @property
    def short(self) -> str:
        """The commit as people read it."""
        return self.commit[:7] or "no commit"
