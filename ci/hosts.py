"""What GitHub and GitLab tell about an event, in their environment variables and event file, as facts.

Host payloads are read leniently: a field that is missing or of another shape than documented leaves its fact empty. Free text (a request's
description) is only searched for the reasons of labels, and loses what would not print.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ci.facts import Event, Facts

_GITHUB_EVENTS: dict[str, Event] = {
    "pull_request": "pull_request",
    "pull_request_target": "pull_request",
    "pull_request_review": "pull_request",
    "schedule": "schedule",
    "workflow_dispatch": "manual",
    "repository_dispatch": "manual",
}
_GITLAB_EVENTS: dict[str, Event] = {
    "merge_request_event": "pull_request",
    "external_pull_request_event": "pull_request",
    "schedule": "schedule",
    "web": "manual",
    "api": "manual",
}
_REASON_LENGTH = 200


def is_github(environ: Mapping[str, str]) -> bool:
    """Tell whether this runs in GitHub Actions."""
    return environ.get("GITHUB_ACTIONS") == "true"


def is_gitlab(environ: Mapping[str, str]) -> bool:
    """Tell whether this runs in GitLab CI, or in gitlab-ci-local, which says GITLAB_CI=false."""
    return environ.get("GITLAB_CI") == "true" or "CI_PIPELINE_SOURCE" in environ


def github(tree: Facts, environ: Mapping[str, str]) -> Facts:
    """Return the facts of a GitHub Actions run, on top of those of the working tree."""
    get = environ.get
    payload = _payload(get("GITHUB_EVENT_PATH", ""))
    request = _mapping(payload.get("pull_request"))
    is_tag, ref = get("GITHUB_REF_TYPE") == "tag", get("GITHUB_REF_NAME", "")
    repository, run = get("GITHUB_REPOSITORY", ""), get("GITHUB_RUN_ID", "")
    head, base = _mapping(request.get("head")), _mapping(request.get("base"))
    labels = tuple(sorted(str(_mapping(label).get("name") or "") for label in request.get("labels") or ()))
    return replace(
        tree,
        host="github",
        event=_GITHUB_EVENTS.get(get("GITHUB_EVENT_NAME", ""), "tag" if is_tag else "push"),
        # A pull request is checked out as a merge that nobody wrote; what is asked about is its head.
        commit=head.get("sha") or tree.commit or get("GITHUB_SHA", ""),
        branch=head.get("ref") or get("GITHUB_HEAD_REF") or ("" if is_tag else ref or tree.branch),
        base_branch=base.get("ref") or get("GITHUB_BASE_REF", ""),
        base_commit=base.get("sha") or "",
        tag=ref if is_tag else "",
        number=int(request.get("number") or 0),
        draft=bool(request.get("draft")),
        # The head of a fork that was deleted has no repository any more.
        fork=bool(request) and _mapping(head.get("repo")).get("full_name") != _mapping(base.get("repo")).get("full_name"),
        labels=labels,
        reasons=reasons(request.get("body") or "", labels),
        author=get("GITHUB_ACTOR", ""),
        repository=repository,
        run_url=f"{get('GITHUB_SERVER_URL', '')}/{repository}/actions/runs/{run}" if run else "",
        request_url=str(request.get("html_url") or ""),
    )


def gitlab(tree: Facts, environ: Mapping[str, str]) -> Facts:
    """Return the facts of a GitLab CI job, on top of those of the working tree."""
    get = environ.get
    source, tag = get("CI_PIPELINE_SOURCE", ""), get("CI_COMMIT_TAG", "")
    number = get("CI_MERGE_REQUEST_IID") or get("CI_EXTERNAL_PULL_REQUEST_IID", "")
    event = _GITLAB_EVENTS.get(source, "tag" if tag else "push")
    if source == "parent_pipeline" and number:  # a child pipeline of a merge request's
        event = "pull_request"
    labels = tuple(sorted(label.strip() for label in get("CI_MERGE_REQUEST_LABELS", "").split(",") if label.strip()))
    project = get("CI_MERGE_REQUEST_PROJECT_URL", "")
    return replace(
        tree,
        host="gitlab",
        event=event,
        # The pipeline of a merged result runs on a merge that nobody wrote; only then is the source's own commit named.
        commit=get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA")
        or get("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_SHA")
        or tree.commit
        or get("CI_COMMIT_SHA", ""),
        branch=_gitlab_branch(environ) or ("" if tag else tree.branch),
        base_branch=get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME") or get("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME", ""),
        base_commit=get("CI_MERGE_REQUEST_DIFF_BASE_SHA") or get("CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_SHA", ""),
        tag=tag,
        number=int(number) if number.isdigit() else 0,
        draft=get("CI_MERGE_REQUEST_DRAFT") == "true" or _is_draft(get("CI_MERGE_REQUEST_TITLE", "")),
        fork=_gitlab_fork(environ),
        labels=labels,
        reasons=reasons(get("CI_MERGE_REQUEST_DESCRIPTION", ""), labels),
        author=get("GITLAB_USER_LOGIN", ""),
        repository=get("CI_PROJECT_PATH", ""),
        run_url=get("CI_PIPELINE_URL", ""),
        request_url=f"{project}/-/merge_requests/{number}" if project and number else "",
    )


def reasons(description: str, labels: Iterable[str]) -> dict[str, str]:
    """Return label → reason, from lines `<label>: <reason>` of a request's description; the first line counts."""
    found: dict[str, str] = {}
    for line in description.splitlines():
        name, _, reason = line.strip().lstrip("-*` ").partition(":")
        name, reason = name.strip("` "), "".join(character for character in reason.strip() if character.isprintable())
        if name in labels and reason:
            found.setdefault(name, reason[:_REASON_LENGTH])
    return found


def _gitlab_branch(environ: Mapping[str, str]) -> str:
    names = ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_BRANCH")
    return next((environ[name] for name in names if environ.get(name)), "")


def _gitlab_fork(environ: Mapping[str, str]) -> bool:
    pairs = (
        ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "CI_MERGE_REQUEST_PROJECT_ID"),
        ("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY", "CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY"),
    )
    return any(environ.get(source) and environ.get(source) != environ.get(target) for source, target in pairs)


def _is_draft(title: str) -> bool:
    return title.lower().startswith(("draft:", "[draft]", "(draft)", "wip:"))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _payload(path: str) -> dict[str, Any]:
    try:
        return _mapping(json.loads(Path(path).read_bytes()) if path else {})
    except (OSError, ValueError):
        return {}
