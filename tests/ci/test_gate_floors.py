"""Verdicts: what can block, what cannot, and that a lost sample never helps."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci import gate


def samples(right: int, wrong: int, lost: int, kind: str = "timeout") -> list[gate.Sample]:
    made = [(1.0, "")] * right + [(0.0, "")] * wrong + [(0.0, kind)] * lost
    return [
        gate.Sample(id=str(number), suite="s", score=score, error_class=error, latency_s=number / 100)
        for number, (score, error) in enumerate(made)
    ]


def judge(right: int, wrong: int, lost: int = 0, *, floor: float = 0.9, budget: float = 0.01, planned: int = 0) -> gate.SuiteVerdict:
    rows = samples(right, wrong, lost)
    return gate.judge_suite("s", rows, floor=floor, planned=planned or len(rows), error_budget=budget)


def test_the_floor_itself_passes() -> None:
    assert judge(90, 10).verdict == "pass"


def test_one_sample_below_the_floor_blocks_and_names_score_and_floor() -> None:
    verdict = judge(89, 11)
    assert verdict.verdict == "block"
    assert verdict.reason == "0.890 is below the floor 0.9"
    assert verdict.wrong[0] == "89"


def test_lost_samples_beyond_the_budget_are_infrastructure() -> None:
    verdict = judge(0, 98, 2)
    assert verdict.verdict == "infra"
    assert verdict.errors == {"timeout": 2}
    assert "2 of 100" in verdict.reason


def test_lost_samples_within_the_budget_count_as_not_right() -> None:
    assert judge(95, 4, 1).score == pytest.approx(0.95)


def test_a_score_that_only_lost_samples_push_below_the_floor_is_no_block() -> None:
    assert judge(899, 91, 10, floor=0.9).verdict == "infra"
    assert judge(800, 190, 10, floor=0.9).verdict == "block"


def test_samples_that_never_came_back_are_missing() -> None:
    verdict = judge(50, 0, planned=100)
    assert verdict.verdict == "infra"
    assert verdict.errors == {"missing": 50}


def test_nothing_planned_or_too_much_returned_is_no_verdict_on_the_model() -> None:
    assert gate.judge_suite("s", [], floor=0.9, planned=0, error_budget=0.01).verdict == "infra"
    assert judge(3, 0, planned=2).verdict == "infra"


@pytest.mark.parametrize(
    ("kinds", "verdict"), [(["pass", "pass"], "pass"), (["pass", "infra"], "infra"), (["infra", "block", "pass"], "block")]
)
def test_overall(kinds: list[gate.Verdict], verdict: gate.Verdict) -> None:
    made = [gate.SuiteVerdict(name="s", verdict=kind, score=1, floor=0, planned=1, completed=1) for kind in kinds]
    assert gate.overall(made) == verdict


@given(right=st.integers(0, 500), wrong=st.integers(0, 500), lost=st.integers(0, 50), floor=st.floats(0, 1), budget=st.floats(0, 1))
def test_losing_samples_never_turns_a_verdict_in_the_models_favour(right: int, wrong: int, lost: int, floor: float, budget: float) -> None:
    """Whatever is lost, a pass with losses would have been a pass had every lost sample been answered wrongly."""
    if right + wrong + lost == 0:
        return
    verdict = judge(right, wrong, lost, floor=floor, budget=budget)
    if verdict.verdict == "pass":
        assert judge(right, wrong + lost, 0, floor=floor).verdict == "pass"
    if verdict.verdict == "block":
        assert judge(right + lost, wrong, 0, floor=floor).verdict == "block"


def test_reads_what_the_client_writes_and_ignores_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps({"id": "a", "suite": "s", "score": 1.0, "later": True}) + "\n")
    assert gate.read_samples(path) == [gate.Sample(id="a", suite="s", score=1.0)]


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "a"}'])
def test_a_line_that_is_no_sample_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"samples\.jsonl:1"):
        gate.read_samples(path)
