"""Events that did not happen: what the options mean, and which contradict each other."""

import argparse
from pathlib import Path

import pytest
from pipelines import Pipeline, commits, git

from ci.errors import UsageError
from ci.facts import Facts
from ci.simulate import add_options, is_asked_for, simulate


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    pipeline = Pipeline.at(tmp_path)
    next(commits(pipeline.root))
    git(pipeline.root, "checkout", "--quiet", "-b", "feature")
    (pipeline.root / "README.md").write_text("new\n")
    next(commits(pipeline.root))
    return pipeline


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(arguments)


def simulated(pipeline: Pipeline, *arguments: str) -> Facts:
    return simulate(pipeline.root, pipeline.config, options(*arguments))


def test_no_option_simulates_nothing() -> None:
    assert not is_asked_for(options())


@pytest.mark.parametrize(
    "arguments", [("--draft",), ("--label", "x"), ("--fork",), ("--base", "main"), ("--number", "7"), ("--event", "mr")]
)
def test_an_option_of_requests_means_a_request(arguments: tuple[str, ...], pipeline: Pipeline) -> None:
    assert is_asked_for(options(*arguments))
    facts = simulated(pipeline, *arguments)
    assert (facts.event, facts.base_branch, facts.branch, facts.changed) == ("pull_request", "main", "feature", ("README.md",))


def test_a_simulation_is_local_also_on_a_ci_host(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_REF_NAME", "elsewhere")
    facts = simulated(pipeline, "--event", "push")
    assert (facts.host, facts.branch, facts.changed) == ("local", "feature", None)


def test_a_tag_has_no_branch(pipeline: Pipeline) -> None:
    facts = simulated(pipeline, "--tag", "v1")
    assert (facts.event, facts.tag, facts.branch) == ("tag", "v1", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--event", "push", "--draft"), "--draft belongs to a pull or merge request"),
        (("--event", "schedule", "--label", "x"), "--label belongs to a pull or merge request"),
        (("--event", "tag"), "--tag and --event tag belong together"),
        (("--event", "push", "--tag", "v1"), "--tag and --event tag belong together"),
        (("--draft", "--tag", "v1"), "--tag and --event tag belong together"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: tuple[str, ...], words: str, pipeline: Pipeline) -> None:
    with pytest.raises(UsageError, match=words):
        simulated(pipeline, *arguments)


def test_a_base_that_does_not_exist_is_said(pipeline: Pipeline) -> None:
    assert "neither origin/nowhere nor nowhere is here" in simulated(pipeline, "--base", "nowhere").changed_note
