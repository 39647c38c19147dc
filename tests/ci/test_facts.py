"""Facts from real repositories, and from environments and event files as the CI hosts make them."""

import json
from pathlib import Path

import pytest
from pipelines import commits, git

from ci.facts import Facts, collect


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "a.txt").write_text("a\n")
    next(commits(root))
    return root


def test_a_clean_tree(tree: Path) -> None:
    facts = collect(tree, {})
    assert facts == Facts(commit=git(tree, "rev-parse", "HEAD"), branch="main")
    assert facts.short == facts.commit[:7]


def test_changed_new_renamed_and_deleted_files_are_dirty(tree: Path) -> None:
    for name in ("b", "c", "d"):
        (tree / name).write_text(f"{name}\n" * 20)
    next(commits(tree))
    (tree / "a.txt").write_text("changed\n")
    (tree / "new file ü.txt").write_text("new\n")
    (tree / "b").unlink()
    git(tree, "mv", "c", "renamed")
    assert collect(tree, {}).dirty == ("a.txt", "b", "new file ü.txt", "renamed")


def test_ignored_files_are_not_dirty(tree: Path) -> None:
    (tree / ".gitignore").write_text(".weighbridge/\n")
    next(commits(tree))
    (tree / ".weighbridge").mkdir()
    (tree / ".weighbridge" / "x").write_text("x")
    assert collect(tree, {}).dirty == ()


def test_no_repository_and_no_commit_are_unknown_not_wrong(tmp_path: Path) -> None:
    assert collect(tmp_path, {}) == Facts()
    git(tmp_path, "init", "--quiet")
    assert collect(tmp_path, {}).commit == ""
    assert collect(tmp_path, {}).short == "no commit"


def test_no_git_is_unknown_not_wrong(tree: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert collect(tree, {}) == Facts()


def test_a_detached_head_has_no_branch(tree: Path) -> None:
    git(tree, "checkout", "--quiet", "--detach")
    assert collect(tree, {}).branch == ""


def test_github_push(tree: Path) -> None:
    environment = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REF_NAME": "main",
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_REPOSITORY": "team/model",
        "GITHUB_RUN_ID": "17",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_ACTOR": "ana",
    }
    facts = collect(tree, environment)
    assert (facts.host, facts.event, facts.branch, facts.author) == ("github", "push", "main", "ana")
    assert facts.run_url == "https://github.example/team/model/actions/runs/17"


def test_github_tag(tree: Path) -> None:
    facts = collect(tree, {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "push", "GITHUB_REF_NAME": "v1.2.0", "GITHUB_REF_TYPE": "tag"})
    assert (facts.event, facts.tag) == ("tag", "v1.2.0")


def pull_request(head: str, /, **changes: object) -> dict[str, object]:
    request = {
        "number": 7,
        "draft": False,
        "labels": [{"name": "skip-full-eval"}, {"name": "bug"}],
        "head": {"ref": "feature", "sha": head, "repo": {"full_name": "team/model"}},
        "base": {"ref": "main", "sha": "0" * 40, "repo": {"full_name": "team/model"}},
    }
    return {"action": "synchronize", "number": 7, "pull_request": {**request, **changes}}


def github_request(tree: Path, payload: object) -> Facts:
    event = tree.parent / "event.json"
    event.write_text(json.dumps(payload))
    environment = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_REF_NAME": "7/merge",
        "GITHUB_HEAD_REF": "feature",
        "GITHUB_BASE_REF": "main",
    }
    return collect(tree, environment)


def test_github_pull_request_is_about_its_head_and_knows_its_changes(tree: Path) -> None:
    git(tree, "checkout", "--quiet", "-b", "feature")
    (tree / "docs.md").write_text("new\n")
    head = next(commits(tree))
    git(tree, "checkout", "--quiet", "main")
    (tree / "elsewhere").write_text("on main since\n")
    next(commits(tree))
    git(tree, "checkout", "--quiet", "--detach")
    git(tree, "merge", "--quiet", "--no-ff", "feature", "--message", "what GitHub checks out")
    facts = github_request(tree, pull_request(head))
    assert (facts.event, facts.commit, facts.branch, facts.base_branch, facts.number) == ("pull_request", head, "feature", "main", 7)
    assert facts.labels == ("bug", "skip-full-eval")
    assert facts.changed == ("docs.md",)
    assert not facts.fork


def test_github_fork_and_draft(tree: Path) -> None:
    head = {"ref": "feature", "sha": "1" * 40, "repo": {"full_name": "somebody/model"}}
    facts = github_request(tree, pull_request("1" * 40, head=head, draft=True))
    assert (facts.fork, facts.draft) == (True, True)


def test_a_deleted_fork_is_still_a_fork(tree: Path) -> None:
    assert github_request(tree, pull_request("1" * 40, head={"ref": "f", "sha": "1" * 40, "repo": None})).fork


def test_an_event_file_that_cannot_be_read_leaves_the_environment(tree: Path) -> None:
    facts = collect(tree, {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "schedule", "GITHUB_EVENT_PATH": "/nowhere"})
    assert (facts.event, facts.number) == ("schedule", 0)


def test_what_changed_is_unknown_without_the_base(tree: Path) -> None:
    assert github_request(tree, pull_request("1" * 40, base={"ref": "gone", "repo": {"full_name": "team/model"}})).changed is None


def test_gitlab_push_also_as_gitlab_ci_local_tells_it(tree: Path) -> None:
    facts = collect(tree, {"GITLAB_CI": "false", "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "CI_COMMIT_REF_NAME": "main"})
    assert (facts.host, facts.event, facts.branch) == ("gitlab", "push", "main")


def test_gitlab_merge_request(tree: Path) -> None:
    environment = {
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_MERGE_REQUEST_TITLE": "Draft: faster",
        "CI_MERGE_REQUEST_LABELS": "bug,skip-full-eval",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "2",
        "CI_MERGE_REQUEST_PROJECT_ID": "1",
    }
    facts = collect(tree, environment)
    assert (facts.event, facts.number, facts.branch, facts.base_branch) == ("pull_request", 7, "feature", "main")
    assert (facts.draft, facts.fork, facts.labels) == (True, True, ("bug", "skip-full-eval"))


def test_gitlab_tag_and_schedule(tree: Path) -> None:
    assert collect(tree, {"GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_TAG": "v1"}).event == "tag"
    assert collect(tree, {"GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "schedule"}).event == "schedule"
