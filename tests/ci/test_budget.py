"""The time budget: what is expected from earlier runs, when it is at risk, and what took the time."""

import json
from pathlib import Path

import pytest

from ci.budget import Budget, durations, makespan, spent, weights_of
from ci.record import Attempt, StageEntry

NEEDS = {"validate": (), "build": ("validate",), "test": ("validate",), "evaluate": ("build",), "push": ("test", "evaluate")}
USUAL = {"validate": 1.0, "build": 60.0, "test": 120.0, "evaluate": 300.0, "push": 10.0}


def record(root: Path, name: str, **seconds: float) -> None:
    directory = root / ".weighbridge" / "runs" / name
    directory.mkdir(parents=True)
    stages = [{"name": stage, "status": "passed" if took > 0 else "failed", "seconds": abs(took)} for stage, took in seconds.items()]
    (directory / "run.json").write_text(json.dumps({"stages": stages}))


def entries(**status: str) -> list[StageEntry]:
    return [StageEntry(name=name, status=status.get(name, "waiting")) for name in NEEDS]  # type: ignore[arg-type]  # names of statuses


def budget(minutes: float, slots: int = 4, **expected: float) -> Budget:
    known = {**USUAL, **expected}
    return Budget(minutes=minutes, expected=known, weights=weights_of(known, NEEDS), slots=slots)


def test_durations_are_the_median_of_the_last_passes(tmp_path: Path) -> None:
    for number, took in enumerate((500.0, 500.0, 10.0, 30.0, -1.0, 20.0, 12.0, 11.0)):
        record(tmp_path, f"2026112{number}-000000-abc", build=took)
    assert durations(tmp_path) == {"build": 12.0}


def test_records_that_say_nothing_are_passed_over(tmp_path: Path) -> None:
    record(tmp_path, "20261121-000000-abc", build=3.0)
    (tmp_path / ".weighbridge/runs/20261122-000000-abc").mkdir()
    (tmp_path / ".weighbridge/runs/20261123-000000-abc").mkdir()
    (tmp_path / ".weighbridge/runs/20261123-000000-abc/run.json").write_text("[1]")
    assert durations(tmp_path) == {"build": 3.0}
    assert durations(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize(("slots", "seconds"), [(1, 491.0), (2, 371.0), (4, 371.0)])
def test_a_forecast_lays_stages_out_as_the_runner_would(slots: int, seconds: float) -> None:
    assert makespan(USUAL, NEEDS, slots, weights_of(USUAL, NEEDS)) == seconds


def test_the_longest_chain_is_put_first() -> None:
    """Otherwise `test` would take the only turn, and the run would take as long as everything together takes."""
    left = {"test": 120.0, "build": 60.0, "evaluate": 300.0, "push": 10.0}
    assert weights_of(USUAL, NEEDS)["build"] > weights_of(USUAL, NEEDS)["test"]
    assert makespan({**left, "lint": 100.0}, {**NEEDS, "lint": ()}, 2, weights_of(USUAL, NEEDS)) == 370.0


def test_a_budget_that_is_enough_is_not_at_risk() -> None:
    plan = budget(10)
    assert plan.risk(plan.forecast(entries(), NEEDS, 0.0), 0.0) == ""


def test_a_budget_at_risk_is_told_with_the_numbers() -> None:
    plan = budget(6)
    assert plan.risk(plan.forecast(entries(), NEEDS, 0.0), 0.0) == (
        "the budget of 6 min is at risk: 6 min 11 s more are expected (evaluate 5 min 00 s, test 2 min 00 s, build 60 s)"
    )


def test_what_is_gone_counts_and_what_is_done_does_not() -> None:
    plan, now = budget(10), 350.0
    at = entries(validate="passed", build="passed", test="reused", evaluate="running")
    at[3].started = 340.0
    forecast = plan.forecast(at, NEEDS, now)
    assert dict(forecast.stages) == {"evaluate": 290.0, "push": 10.0}
    assert plan.risk(forecast, now).startswith("the budget of 10 min is at risk: 5 min 50 s are gone and 5 min 00 s more are expected (")


def test_a_stage_that_takes_longer_than_usual_may_end_any_moment() -> None:
    at = entries(validate="passed", build="running")
    at[1].started = 1.0
    assert budget(10).forecast(at, NEEDS, 100.0).stages["build"] == 0.0


def test_what_nobody_knows_is_said_to_be_unknown() -> None:
    plan = Budget(minutes=1, expected={"build": 100.0}, slots=4)
    forecast = plan.forecast(entries(validate="reused"), NEEDS, 0.0)
    assert forecast.unknown == ("test", "evaluate", "push")
    assert "at least (build 1 min 40 s)" in plan.risk(forecast, 0.0)


def test_without_a_budget_nothing_is_at_risk() -> None:
    plan = budget(0)
    assert plan.risk(plan.forecast(entries(), NEEDS, 1e6), 1e6) == ""


def test_a_need_that_will_never_be_done_ends_the_forecast() -> None:
    assert makespan({"a": 1.0, "b": 1.0}, {"a": ("b",), "b": ("a",)}, 4, {}) == 0.0


def test_a_run_in_which_nothing_began_says_so() -> None:
    assert spent(entries(), 60.0) == ["no stage had begun: the engine or the base image was not ready"]


def test_what_took_the_time_is_told_longest_first() -> None:
    build = StageEntry(name="build", status="passed", seconds=12.0, expected=8.0)
    evaluate = StageEntry(name="evaluate", status="running", started=13.0, waited=30.0, waited_for="GPU 0: held by somebody")
    push = StageEntry(name="push", status="waiting", attempts=[Attempt(number=1, seconds=1.0, message="no", again_in=2.0)])
    test = StageEntry(name="test", status="passed", seconds=0.5, attempts=push.attempts)
    assert spent([build, evaluate, push, test], 600.0) == [
        "evaluate       9 min 47 s   still at work, waited 30 s (GPU 0: held by somebody)",
        "build                12 s   usually 8.0 s",
        "test                0.5 s   1 failed attempt before it",
    ]
