"""The rules as a truth table: one row per situation, with everything that policy decides about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pipelines import Pipeline

from ci.config.model import Config
from ci.errors import UsageError
from ci.facts import Facts
from ci.plan import Plan, make_plan
from ci.policy import Permits, under_policy
from ci.stages import STAGES

ALL = "validate build test scan evaluate package push"
LIGHT = "validate build test scan"
DOCS = ("docs/a.md", "README.md")
CODE = ("service/main.py",)
WAIVER = ("skip-full-eval",)
FORK = "push secrets shared_cache"


@dataclass(frozen=True)
class Row:
    """A situation, and what is expected of it."""

    situation: str
    facts: Mapping[str, Any]
    runs: str = ALL
    policies: str = ""
    forbids: str = ""
    budget: int = 0
    policy: Mapping[str, Any] = field(default_factory=dict)


def pr(**facts: Any) -> dict[str, Any]:
    return {"event": "pull_request", "branch": "feature", "base_branch": "main", "number": 7, "changed": CODE, "author": "ana", **facts}


TABLE = [
    # local runs and pushes
    Row("local, no git", {}),
    Row("local on main", {"branch": "main"}, policies="main"),
    Row("local on a branch", {"branch": "feature"}),
    Row("local, detached", {"commit": "1" * 40}),
    Row("local on main, dirty documentation", {"branch": "main", "dirty": DOCS}, policies="main"),
    Row("local on a hotfix", {"branch": "hotfix/nan"}, LIGHT, "hotfix", "push", 30),
    Row("push to main", {"event": "push", "branch": "main"}, policies="main"),
    Row("push to main of documentation only", {"event": "push", "branch": "main", "changed": DOCS}, policies="main"),
    Row("push to a branch", {"event": "push", "branch": "feature"}),
    Row("push to a branch, documentation only", {"event": "push", "branch": "feature", "changed": DOCS}, "validate", "docs"),
    Row("push to a hotfix", {"event": "push", "branch": "hotfix/nan"}, LIGHT, "hotfix", "push", 30),
    Row("push to a branch that is only called alike", {"event": "push", "branch": "my-hotfix"}),
    Row("push of a merge queue", {"event": "push", "branch": "gh-readonly-queue/main/pr-7-1f"}),
    Row("push to a second main", {"event": "push", "branch": "stable/2"}, policies="main", policy={"main": ("main", "stable/*")}),
    Row("push to main when main is called trunk", {"event": "push", "branch": "main"}, policy={"main": ("trunk",)}),
    Row("a label counts only on a request", {"event": "push", "branch": "feature", "labels": WAIVER}),
    Row("a draft is only a request", {"event": "push", "branch": "feature", "draft": True}),
    # pull and merge requests
    Row("request", pr(), policies="request", budget=10),
    Row("request, nothing known of its changes", pr(changed=None), policies="request", budget=10),
    Row("request without a change", pr(changed=()), policies="request", budget=10),
    Row("request from a branch called main", pr(branch="main"), policies="request", budget=10),
    Row("request with a longer budget", pr(), policies="request", budget=20, policy={"budget": 20}),
    Row("request, documentation only", pr(changed=DOCS), "validate", "docs request", budget=10),
    Row("request, licence only", pr(changed=("LICENSE",)), "validate", "docs request", budget=10),
    Row("request, documentation and code", pr(changed=(*DOCS, *CODE)), policies="request", budget=10),
    Row("request, documentation and pipeline", pr(changed=(*DOCS, "configs/pipeline.yaml")), policies="request", budget=10),
    Row("request, Markdown that a stage reads", pr(changed=("service/evals/prompt.md",)), policies="request", budget=10),
    Row("request, Markdown beside what stages read", pr(changed=("service/README.md",)), "validate", "docs request", budget=10),
    Row("request, source moved into docs", pr(changed=("docs/main.py", "service/src/main.py")), policies="request", budget=10),
    Row("request, CI YAML only", pr(changed=(".github/workflows/ci.yml",)), policies="request", budget=10),
    Row("request, documentation by configuration", pr(changed=("notes/a.txt",)), "validate", "docs request", "", 10, {"docs": ("notes",)}),
    Row("request, no documentation by configuration", pr(changed=DOCS), ALL, "request", "", 10, {"docs": ()}),
    Row(
        "request, documentation keeps tests",
        pr(changed=DOCS),
        "validate build test",
        "docs request",
        "",
        10,
        {"docs_keep": ("validate", "build", "test")},
    ),
    Row("draft", pr(draft=True), LIGHT, "draft request", budget=10),
    Row("draft, documentation only", pr(draft=True, changed=DOCS), "validate", "docs draft request", budget=10),
    Row("draft by configuration not light", pr(draft=True), ALL, "draft request", "", 10, {"draft_skips": ()}),
    Row("draft by configuration very light", pr(draft=True), "validate", "draft request", "", 10, {"draft_skips": ("build", "test")}),
    Row("fork", pr(fork=True), "validate build test scan evaluate package", "fork request", FORK, 10),
    Row("fork, draft", pr(fork=True, draft=True), LIGHT, "fork draft request", FORK, 10),
    Row("fork, documentation only", pr(fork=True, changed=DOCS), "validate", "fork docs request", FORK, 10),
    Row("fork, labelled", pr(fork=True, labels=WAIVER), LIGHT, "fork waiver request", FORK, 10),
    Row("fork that calls its branch a hotfix", pr(fork=True, branch="hotfix/x"), ALL[:-5], "fork request", FORK, 10),
    Row("fork that calls its branch main", pr(fork=True, branch="main"), ALL[:-5], "fork request", FORK, 10),
    Row("label", pr(labels=WAIVER), LIGHT, "waiver request", budget=10),
    Row("label among others", pr(labels=("bug", *WAIVER)), LIGHT, "waiver request", budget=10),
    Row("label that means nothing", pr(labels=("bug",)), policies="request", budget=10),
    Row("label in another case", pr(labels=("Skip-Full-Eval",)), policies="request", budget=10),
    Row("label on a draft", pr(labels=WAIVER, draft=True), LIGHT, "draft waiver request", budget=10),
    Row("label without a reason that is needed", pr(labels=WAIVER), ALL, "waiver request", "", 10, {"waiver_needs_reason": True}),
    Row(
        "label with a reason that is needed",
        pr(labels=WAIVER, reasons={"skip-full-eval": "typo"}),
        LIGHT,
        "waiver request",
        "",
        10,
        {"waiver_needs_reason": True},
    ),
    Row(
        "label by configuration",
        pr(labels=("quick",)),
        "validate build scan",
        "waiver request",
        "",
        10,
        {"waivers": {"quick": ("test", "evaluate")}},
    ),
    Row("no waivers by configuration", pr(labels=WAIVER), ALL, "request", "", 10, {"waivers": {}}),
    Row("request from a hotfix", pr(branch="hotfix/nan"), LIGHT, "hotfix request", "push", 30),
    Row("draft from a hotfix", pr(branch="hotfix/nan", draft=True), LIGHT, "draft hotfix request", "push", 30),
    Row("hotfix, documentation only", pr(branch="hotfix/nan", changed=DOCS), "validate", "docs hotfix request", "push", 30),
    Row("hotfix with a shorter budget", pr(branch="hotfix/nan"), LIGHT, "hotfix request", "push", 5, {"hotfix_budget": 5}),
    Row("hotfix with evaluation", pr(branch="hotfix/nan"), ALL[:-5], "hotfix request", "push", 30, {"hotfix_skips": ()}),
    Row("no hotfixes by configuration", pr(branch="hotfix/nan"), ALL, "request", "", 10, {"hotfix": ()}),
    # tags, schedules, by hand
    Row("release", {"event": "tag", "tag": "v1.2.0"}, policies="release", forbids="host_base"),
    Row("release, documentation only", {"event": "tag", "tag": "v1.2.0", "changed": DOCS}, policies="release", forbids="host_base"),
    Row("tag that is no release", {"event": "tag", "tag": "nightly"}, policy={"releases": ("v*",)}),
    Row("schedule", {"event": "schedule", "branch": "main"}, policies="schedule"),
    Row("schedule on a hotfix", {"event": "schedule", "branch": "hotfix/nan"}, policies="schedule"),
    Row("schedule, documentation only", {"event": "schedule", "branch": "main", "changed": DOCS}, policies="schedule"),
    Row("by hand", {"event": "manual", "branch": "feature"}, policies="manual"),
    Row("by hand on a hotfix", {"event": "manual", "branch": "hotfix/nan"}, policies="manual"),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Pipeline.at(tmp_path_factory.mktemp("policy")).config


def planned(config: Config, facts: Facts, **policy: Any) -> Plan:
    return make_plan(replace(config, policy=replace(config.policy, **policy)), facts, STAGES)


def whys(plan: Plan) -> dict[str, str]:
    return {stage.name: stage.why for stage in plan.stages if stage.do == "skip"}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.situation)
def test_the_truth_table(row: Row, config: Config) -> None:
    plan = planned(config, Facts(**row.facts), **row.policy)
    assert " ".join(stage.name for stage in plan.running()) == row.runs
    assert " ".join(applied.policy for applied in plan.policies) == row.policies
    assert plan.permits == Permits(**dict.fromkeys(row.forbids.split(), False))
    assert plan.budget_minutes == row.budget
    assert all(stage.why for stage in plan.stages if stage.do == "skip")
    assert all(not stage.why for stage in plan.stages if stage.do == "run")


def test_the_table_is_as_long_as_it_should_be_and_says_nothing_twice() -> None:
    assert len({row.situation for row in TABLE}) == len(TABLE) >= 40


def test_the_first_rule_that_skips_a_stage_gives_the_reason(config: Config) -> None:
    plan = planned(config, Facts(**pr(draft=True, fork=True, labels=WAIVER)))
    assert whys(plan) == {
        "evaluate": "draft pull request: light run (policy draft)",
        "package": "needs evaluate",
        "push": "pull requests from forks push nothing (policy fork)",
    }


def test_a_change_of_documentation_names_it(config: Config) -> None:
    assert whys(planned(config, Facts(**pr(changed=("README.md",)))))["build"] == "only documentation changed: README.md (policy docs)"
    assert whys(planned(config, Facts(**pr(changed=DOCS))))["build"] == "only documentation changed: 2 files (policy docs)"


def test_a_hotfix_says_its_budget_and_that_an_approval_is_missing(config: Config) -> None:
    reasons = whys(planned(config, Facts(**pr(branch="hotfix/nan"))))
    assert reasons["evaluate"] == "hotfix: no full evaluation, 30 min budget (policy hotfix)"
    assert reasons["push"] == 'a hotfix needs a recorded approval (approve --reason "…") (policy hotfix)'


def test_a_waiver_is_in_the_plan_with_who_and_why(config: Config) -> None:
    plan = planned(config, Facts(**pr(labels=WAIVER, reasons={"skip-full-eval": "a comment only"})))
    assert whys(plan)["evaluate"] == "label skip-full-eval, in a run started by ana: a comment only (policy waiver)"
    (waiver,) = plan.waivers
    assert (waiver.label, waiver.by, waiver.reason, waiver.skips) == ("skip-full-eval", "ana", "a comment only", ("evaluate",))


def test_a_waiver_without_a_reason_says_so(config: Config) -> None:
    assert whys(planned(config, Facts(**pr(labels=WAIVER))))["evaluate"].endswith("started by ana: no reason given (policy waiver)")
    refused = planned(config, Facts(**pr(labels=WAIVER)), waiver_needs_reason=True)
    assert refused.waivers == ()
    assert 'without a line "skip-full-eval: <reason>"' in refused.policies[0].why


@pytest.mark.parametrize("policy", [{"draft_skips": ("evalute",)}, {"waivers": {"quick": ("evalute",)}}, {"docs_keep": ("evalute",)}])
def test_a_policy_that_names_an_unknown_stage_is_refused(policy: dict[str, Any], config: Config) -> None:
    with pytest.raises(UsageError, match=r'policy\..*there is no stage "evalute"'):
        planned(config, Facts(), **policy)


def test_a_release_does_not_fall_back_to_the_host_base(config: Config) -> None:
    release = planned(config, Facts(event="tag", tag="v1")).permits
    assert under_policy(config, release).base.fallback == "none"
    assert under_policy(config, Permits()) == config
    allowed = replace(config, base=replace(config.base, releases_may_use_host=True))
    assert planned(allowed, Facts(event="tag", tag="v1")).permits.host_base


@pytest.mark.parametrize("base", [{"image": "host"}, {"aliases": {"python:3.11": "host"}}])
def test_a_release_refuses_a_configured_host_base(base: dict[str, Any], config: Config) -> None:
    with pytest.raises(UsageError, match="a release does not stand on the host base"):
        under_policy(replace(config, base=replace(config.base, **base)), Permits(host_base=False))


def test_rules_read_files_and_never_a_commit_message(tmp_path: Path, config: Config) -> None:
    """Facts have no commit message at all, so that no rule can come to trust one."""
    assert not [name for name in Facts.__slots__ if "message" in name or "title" in name]
