"""Where we are: the commit, the event and the host CI, from GitHub's or GitLab's environment and event file, or from git alone.

Nothing here decides anything: rules are in ci/plan.py. A fact that cannot be known (no git, a shallow clone, no event file) is empty or
None, never guessed.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Host = Literal["local", "github", "gitlab"]
Event = Literal["local", "push", "pull_request", "tag", "schedule", "manual"]

_GITHUB_EVENTS: dict[str, Event] = {
    "pull_request": "pull_request",
    "pull_request_target": "pull_request",
    "schedule": "schedule",
    "workflow_dispatch": "manual",
    "repository_dispatch": "manual",
}
_GITLAB_EVENTS: dict[str, Event] = {"merge_request_event": "pull_request", "schedule": "schedule", "web": "manual", "api": "manual"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the commit and the event. Host-specific fields (`host`, `run_url`) never enter a plan."""

    host: Host = "local"
    event: Event = "local"
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


def collect(root: Path, environ: Mapping[str, str]) -> Facts:
    """Return the facts of the working tree at `root` under `environ`."""
    tree = _working_tree(root)
    if environ.get("GITHUB_ACTIONS") == "true":
        facts = _github(tree, environ)
    elif environ.get("GITLAB_CI") == "true" or "CI_PIPELINE_SOURCE" in environ:  # gitlab-ci-local says GITLAB_CI=false
        facts = _gitlab(tree, environ)
    else:
        facts = tree
    if facts.event == "pull_request" and facts.base_branch:
        facts = replace(facts, changed=_changed(root, facts.base_branch))
    return facts


def git(root: Path, *arguments: str) -> str | None:
    """Return what git says, or None when there is no git, no repository, or no such thing in it."""
    try:
        # No lock is taken for a refreshed index: two runs in one tree must not meet there.
        done = subprocess.run(["git", "--no-optional-locks", "-C", str(root), *arguments], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="surrogateescape")


def _working_tree(root: Path) -> Facts:
    """Ask git once for commit, branch and changed files."""
    status = git(root, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal")
    if status is None:
        return Facts()
    commit, branch, dirty = "", "", []
    entries = iter(status.split("\0"))
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


def _changed(root: Path, base: str) -> tuple[str, ...] | None:
    for reference in (f"origin/{base}", base):
        names = git(root, "diff", "--name-only", "-z", f"{reference}...HEAD")
        if names is not None:
            return tuple(sorted(name for name in names.split("\0") if name))
    return None


def _github(tree: Facts, environ: Mapping[str, str]) -> Facts:
    payload = _payload(environ.get("GITHUB_EVENT_PATH", ""))
    request: dict[str, Any] = payload.get("pull_request") or {}
    name, is_tag = environ.get("GITHUB_EVENT_NAME", ""), environ.get("GITHUB_REF_TYPE") == "tag"
    event = _GITHUB_EVENTS.get(name, "tag" if is_tag else "push")
    ref = environ.get("GITHUB_REF_NAME", "")
    repository, run = environ.get("GITHUB_REPOSITORY", ""), environ.get("GITHUB_RUN_ID", "")
    head, base = request.get("head") or {}, request.get("base") or {}
    return replace(
        tree,
        host="github",
        event=event,
        # A pull request is checked out as a merge that nobody wrote; what is asked about is its head.
        commit=head.get("sha") or tree.commit or environ.get("GITHUB_SHA", ""),
        branch=head.get("ref") or environ.get("GITHUB_HEAD_REF") or ("" if is_tag else ref) or tree.branch,
        base_branch=base.get("ref") or environ.get("GITHUB_BASE_REF", ""),
        tag=ref if is_tag else "",
        number=int(request.get("number") or 0),
        draft=bool(request.get("draft")),
        fork=bool(request) and (head.get("repo") or {}).get("full_name") != (base.get("repo") or {}).get("full_name"),
        labels=tuple(sorted(str(label.get("name")) for label in request.get("labels") or ())),
        author=environ.get("GITHUB_ACTOR", ""),
        repository=repository,
        run_url=f"{environ.get('GITHUB_SERVER_URL', '')}/{repository}/actions/runs/{run}" if run else "",
    )


def _gitlab(tree: Facts, environ: Mapping[str, str]) -> Facts:
    get = environ.get
    tag = get("CI_COMMIT_TAG", "")
    number = get("CI_MERGE_REQUEST_IID", "")
    title = get("CI_MERGE_REQUEST_TITLE", "").lower()
    source, target = get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", ""), get("CI_MERGE_REQUEST_PROJECT_ID", "")
    labels = get("CI_MERGE_REQUEST_LABELS", "")
    return replace(
        tree,
        host="gitlab",
        event=_GITLAB_EVENTS.get(get("CI_PIPELINE_SOURCE", ""), "tag" if tag else "push"),
        commit=get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or tree.commit or get("CI_COMMIT_SHA", ""),
        branch=get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME") or get("CI_COMMIT_BRANCH") or ("" if tag else tree.branch),
        base_branch=get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", ""),
        tag=tag,
        number=int(number) if number.isdigit() else 0,
        draft=get("CI_MERGE_REQUEST_DRAFT") == "true" or title.startswith(("draft:", "wip:")),
        fork=bool(source) and source != target,
        labels=tuple(sorted(label.strip() for label in labels.split(",") if label.strip())),
        author=get("GITLAB_USER_LOGIN", ""),
        repository=get("CI_PROJECT_PATH", ""),
        run_url=get("CI_PIPELINE_URL", ""),
    )


def _payload(path: str) -> dict[str, Any]:
    try:
        loaded = json.loads(Path(path).read_bytes()) if path else {}
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}
