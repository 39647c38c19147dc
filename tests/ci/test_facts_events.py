"""Events of both hosts as they document them (tests/resources/events), read as facts and planned: the same event gives the same plan."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pipelines import CONFIG, commits, git

from ci.facts import Facts, collect
from ci.hosts import reasons

EVENTS = Path(__file__).resolve().parents[1] / "resources" / "events"
REPOSITORY = Path(__file__).resolve().parents[2]
HOSTS = ("GITHUB_", "GITLAB_", "CI_")


@dataclass(frozen=True)
class Tree:
    """A repository with a branch that changed code, and `main`, which went on since."""

    root: Path
    base: str
    head: str

    def environment(self, host: str, name: str) -> dict[str, str]:
        """Give the environment of a job; the event file lies beside the repository."""
        text = (EVENTS / host / f"{name}.json").read_text().replace("{head}", self.head).replace("{base}", self.base)
        event: dict[str, Any] = json.loads(text)
        environment: dict[str, str] = dict(event["environment"])
        if "payload" in event:
            file = self.root.parent / f"{name}.json"
            file.write_text(json.dumps(event["payload"]))
            environment["GITHUB_EVENT_PATH"] = str(file)
        return environment

    def facts(self, host: str, name: str) -> Facts:
        return collect(self.root, self.environment(host, name))

    def plan(self, *options: str, environment: dict[str, str] | None = None) -> str:
        own = {name: value for name, value in os.environ.items() if not name.startswith(HOSTS) and name != "CI"}
        return subprocess.run(
            [sys.executable, "-m", "ci", "plan", "--json", *options],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=True,
            env={**own, "PYTHONPATH": str(REPOSITORY), "WEIGHBRIDGE_CACHE": str(self.root.parent / "cache"), **(environment or {})},
        ).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "repository"
    (root / "service").mkdir(parents=True)
    (root / "configs").mkdir()
    (root / "configs" / "pipeline.yaml").write_text(CONFIG)
    (root / "service" / "main.py").write_text("print('hello')\n")
    base = next(commits(root))
    git(root, "checkout", "--quiet", "-b", "feature")
    (root / "service" / "main.py").write_text("print('faster')\n")
    head = next(commits(root))
    git(root, "checkout", "--quiet", "main")
    (root / "README.md").write_text("on main since\n")
    next(commits(root))
    git(root, "checkout", "--quiet", "feature")
    return Tree(root, base, head)


# What one event is called on GitHub and on GitLab, and the options that ask for it anywhere.
REQUEST = ("--event", "pr", "--base", "main", "--number", "7")
WHY = "skip-full-eval: no numbers can change"
SAME = [
    ("pull_request", "merge_request", (*REQUEST, "--author", "ana")),
    ("pull_request", "merge_request_merged_result", (*REQUEST, "--author", "ana")),
    ("pull_request_draft", "merge_request_draft", (*REQUEST, "--author", "ana", "--draft")),
    ("pull_request_fork", "merge_request_fork", (*REQUEST, "--author", "mallory", "--fork")),
    ("pull_request_deleted_fork", "merge_request_fork", (*REQUEST, "--author", "mallory", "--fork")),
    (
        "pull_request_labeled",
        "merge_request_labeled",
        (*REQUEST, "--author", "ana", "--label", "bug", "--label", "skip-full-eval", "--reason", WHY),
    ),
    ("pull_request_hotfix", "merge_request_hotfix", (*REQUEST, "--author", "ana", "--branch", "hotfix/nan")),
    ("push_main", "push_main", ("--event", "push", "--branch", "main")),
    ("push_tag", "push_tag", ("--event", "tag", "--tag", "v1.2.0")),
    ("schedule", "schedule", ("--event", "schedule", "--branch", "main")),
    ("workflow_dispatch", "web", ("--event", "manual", "--branch", "main")),
]


@pytest.mark.parametrize(("github", "gitlab", "options"), SAME, ids=[f"{github}-{gitlab}" for github, gitlab, _ in SAME])
def test_one_event_has_one_plan_byte_by_byte(github: str, gitlab: str, options: tuple[str, ...], tree: Tree) -> None:
    plans = [
        tree.plan(*options),
        tree.plan(environment=tree.environment("github", github)),
        tree.plan(environment=tree.environment("gitlab", gitlab)),
    ]
    assert plans[0] == plans[1] == plans[2]
    assert json.loads(plans[0])["commit"] == tree.head


def test_every_event_of_the_resources_is_used() -> None:
    assert {path.stem for path in (EVENTS / "github").iterdir()} == {github for github, _, _ in SAME}
    assert {path.stem for path in (EVENTS / "gitlab").iterdir()} == {gitlab for _, gitlab, _ in SAME}


@pytest.mark.parametrize(("host", "name"), [("github", "pull_request_labeled"), ("gitlab", "merge_request_labeled")])
def test_a_request_tells_who_what_why_and_where(host: str, name: str, tree: Tree) -> None:
    facts = tree.facts(host, name)
    assert (facts.number, facts.branch, facts.base_branch, facts.author) == (7, "feature", "main", "ana")
    assert facts.labels == ("bug", "skip-full-eval")
    assert facts.reasons == {"skip-full-eval": "no numbers can change"}
    assert facts.changed == ("service/main.py",)
    assert facts.request_url.endswith("/7")
    assert facts.run_url.startswith("https://")


def test_a_clone_of_the_merge_alone_still_knows_the_change_of_its_base_by_name(tree: Tree) -> None:
    """GitLab fetches only the request's own ref: no branch of the base, but the commit where they parted."""
    clone = tree.root.parent / "clone"
    git(tree.root, "clone", "--quiet", "--single-branch", "--branch", "feature", f"file://{tree.root}", str(clone))
    assert Tree(clone, tree.base, tree.head).facts("gitlab", "merge_request").changed == ("service/main.py",)


@pytest.mark.parametrize(("host", "name"), [("github", "pull_request"), ("gitlab", "merge_request")])
def test_a_shallow_clone_says_what_is_not_known_and_what_to_do(host: str, name: str, tree: Tree) -> None:
    clone = tree.root.parent / "clone"
    git(tree.root, "clone", "--quiet", "--depth", "1", "--branch", "feature", f"file://{tree.root}", str(clone))
    facts = Tree(clone, tree.base, tree.head).facts(host, name)
    assert facts.changed is None
    assert "shallow" in facts.changed_note
    assert "fetch-depth: 0 on GitHub, GIT_DEPTH: 0 on GitLab" in facts.changed_note


def test_without_the_base_branch_the_note_names_it(tree: Tree) -> None:
    git(tree.root, "branch", "--quiet", "-D", "main")
    facts = Tree(tree.root, "1" * 40, tree.head).facts("github", "pull_request")
    assert (facts.changed, "neither origin/main nor main is here" in facts.changed_note) == (None, True)


def test_a_file_moved_into_the_documentation_is_named_by_both_names(tree: Tree) -> None:
    (tree.root / "docs").mkdir()
    git(tree.root, "mv", "service/main.py", "docs/main.md")
    head = next(commits(tree.root))
    assert Tree(tree.root, tree.base, head).facts("github", "pull_request").changed == ("docs/main.md", "service/main.py")


def test_a_request_from_a_mirror_on_github_is_a_request_on_gitlab(tree: Tree) -> None:
    environment = {
        "GITLAB_CI": "true",
        "CI_PIPELINE_SOURCE": "external_pull_request_event",
        "CI_EXTERNAL_PULL_REQUEST_IID": "7",
        "CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY": "mallory/digits",
        "CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY": "team/digits",
        "CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_NAME": "feature",
        "CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_SHA": tree.head,
        "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_NAME": "main",
        "CI_EXTERNAL_PULL_REQUEST_TARGET_BRANCH_SHA": tree.base,
    }
    facts = collect(tree.root, environment)
    assert (facts.event, facts.fork, facts.number, facts.branch, facts.commit) == ("pull_request", True, 7, "feature", tree.head)


def test_a_child_pipeline_of_a_merge_request_is_about_the_request(tree: Tree) -> None:
    environment = {**tree.environment("gitlab", "merge_request"), "CI_PIPELINE_SOURCE": "parent_pipeline"}
    assert collect(tree.root, environment).event == "pull_request"


@pytest.mark.parametrize("payload", ["[]", "{", '{"pull_request": 3}', '{"pull_request": {"labels": [null, 3], "head": 1}}'])
def test_a_payload_of_another_shape_leaves_facts_empty(payload: str, tree: Tree) -> None:
    event = tree.root.parent / "event.json"
    event.write_text(payload)
    facts = collect(tree.root, {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(event)})
    assert (facts.event, facts.number, facts.commit) == ("pull_request", 0, tree.head)


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("skip-full-eval: typo", "typo"),
        ("words\r\n * `skip-full-eval`: typo: in a comment\r\n", "typo: in a comment"),
        ("skip-full-eval: first\nskip-full-eval: second", "first"),
        ("skip-full-eval: \x1b[31mred\x07", "[31mred"),
        ("skip-full-eval: " + "x" * 500, "x" * 200),
        ("skip-full-eval:", None),
        ("please skip-full-eval: typo", None),
        ("other: typo", None),
    ],
)
def test_the_reason_of_a_label_is_a_line_of_the_description(description: str, reason: str | None) -> None:
    assert reasons(description, ("skip-full-eval",)).get("skip-full-eval") == reason
