from pathlib import Path

import pytest
from pipelines import Pipeline

from ci.facts import Facts
from ci.graph import dot, mermaid, text
from ci.plan import Plan, make_plan
from ci.stages import STAGES


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    facts = Facts(event="pull_request", draft=True, labels=("skip-full-eval",), reasons={"skip-full-eval": 'a "quoted" <b> #1'})
    config = Pipeline.at(tmp_path).config
    return make_plan(config, facts, STAGES)


def test_text_indents_what_comes_later_and_says_why_something_is_skipped(plan: Plan) -> None:
    lines = text(plan).splitlines()
    assert lines[:3] == ["validate", "  build ← validate", "  test ← validate"]
    assert lines[4] == "    evaluate ← build    skip: draft pull request: light run (policy draft)"
    assert lines[-1].startswith(" " * 8 + "push ← build, test, scan, evaluate, package")


def test_mermaid_has_every_stage_and_need_and_marks_what_is_skipped(plan: Plan) -> None:
    lines = mermaid(plan).splitlines()
    assert lines[0] == "flowchart LR"
    assert '  s4["evaluate<br>skip: draft pull request: light run (policy draft)"]' in lines
    assert sum("-->" in line for line in lines) == sum(len(stage.needs) for stage in plan.stages)
    assert lines[-1] == "  class s4,s5,s6 skipped"


def test_dot_has_every_stage_and_need_and_marks_what_is_skipped(plan: Plan) -> None:
    lines = dot(plan).splitlines()
    assert (lines[0], lines[-1]) == ("digraph plan {", "}")
    assert '  "build" -> "evaluate";' in lines
    assert sum("dashed" in line for line in lines) == 3


def test_words_of_others_cannot_leave_their_label(tmp_path: Path) -> None:
    facts = Facts(event="pull_request", labels=("skip-full-eval",), reasons={"skip-full-eval": '"] --> x <b>\\'})
    plan = make_plan(Pipeline.at(tmp_path).config, facts, STAGES)
    assert "#quot;] --#gt; x #lt;b#gt;\\ (policy" in mermaid(plan)
    assert r"\"] --> x <b>\\ (policy" in dot(plan)


def test_a_plan_without_skips_needs_no_mark(tmp_path: Path) -> None:
    whole = make_plan(Pipeline.at(tmp_path).config, Facts(), STAGES)
    assert "skipped" not in mermaid(whole)
    assert "dashed" not in dot(whole)
    assert "→ .weighbridge/oci" in mermaid(whole)
