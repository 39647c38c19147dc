import json
from dataclasses import replace
from pathlib import Path

import pytest
from pipelines import Pipeline, commits, passing

from ci.errors import UsageError
from ci.exits import Exit
from ci.facts import Facts, collect
from ci.plan import Plan, make_plan, subject_name
from ci.stages import STAGES

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_REF_NAME": "main",
    "GITHUB_REF_TYPE": "branch",
    "GITHUB_RUN_ID": "1",
}
GITLAB = {"GITLAB_CI": "true", "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "CI_PIPELINE_URL": "https://gitlab.example/1"}


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline.at(tmp_path)


def plan(pipeline: Pipeline, facts: Facts, *only: str) -> Plan:
    return make_plan(pipeline.config, facts, STAGES, only=only)


def test_the_plan_of_a_commit_has_the_same_bytes_everywhere(pipeline: Pipeline, tmp_path: Path) -> None:
    """On a laptop, on GitHub and on GitLab, and wherever the repository lies."""
    next(commits(pipeline.root))
    (tmp_path / "moved").mkdir()
    moved = pipeline.root.rename(tmp_path / "moved" / "elsewhere")
    elsewhere = Pipeline(moved, tmp_path / "another cache")
    plans = {plan(elsewhere, collect(moved, environment)).to_json() for environment in ({}, GITHUB, GITLAB)}
    assert len(plans) == 1
    (text,) = plans
    assert str(tmp_path) not in text
    assert json.loads(text)["event"] == "push"


def test_all_stages_run_in_the_order_of_what_they_need(pipeline: Pipeline) -> None:
    planned = plan(pipeline, Facts()).running()
    assert [stage.name for stage in planned] == ["validate", "build", "test", "scan", "evaluate", "package", "push"]
    seen: set[str] = set()
    for stage in planned:
        assert set(stage.needs) <= seen
        seen.add(stage.name)


def test_only_keeps_a_stage_and_what_it_needs(pipeline: Pipeline) -> None:
    planned = plan(pipeline, Facts(), "evaluate")
    assert [stage.name for stage in planned.running()] == ["validate", "build", "evaluate"]
    assert {stage.why for stage in planned.stages if stage.do == "skip"} == {"not asked for (--only)"}


def test_a_stage_that_does_not_exist_is_a_usage_error_with_a_suggestion(pipeline: Pipeline) -> None:
    with pytest.raises(UsageError, match=r'there is no stage "tset" \(did you mean "test"\?\)') as caught:
        plan(pipeline, Facts(), "tset")
    assert caught.value.exit == Exit.USAGE
    assert "validate, build" in caught.value.hint


def test_a_fork_pushes_nothing_and_the_plan_says_why(pipeline: Pipeline) -> None:
    facts = Facts(event="pull_request", fork=True, number=3)
    skipped = [stage for stage in plan(pipeline, facts).stages if stage.do == "skip"]
    assert [(stage.name, stage.why) for stage in skipped] == [("push", "pull requests from forks push nothing (policy fork)")]


def test_what_needs_a_skipped_stage_is_skipped(pipeline: Pipeline) -> None:
    pipeline.add("push", passing())
    pipeline.add("announce", passing(), needs=("push",))
    planned = make_plan(pipeline.config, Facts(fork=True), pipeline.stages)
    assert [(stage.do, stage.why) for stage in planned.stages][1] == ("skip", "needs push")


def test_push_says_where_to(pipeline: Pipeline) -> None:
    assert plan(pipeline, Facts()).stages[-1].detail == "→ .weighbridge/oci"


def test_a_subject_without_a_name_is_called_like_its_directory(pipeline: Pipeline) -> None:
    config = pipeline.config
    nameless = replace(config, subject=replace(config.subject, name="", path="models/Digits_VLM/"))
    assert subject_name(nameless) == "digits-vlm"
    assert subject_name(replace(config, subject=replace(config.subject, name="", path="."))) == "model"
