from pathlib import Path

import pytest
from pipelines import Pipeline, passing

from ci.facts import Facts
from ci.plan import make_plan
from ci.record import Attempt, Failure, RunRecord, StageEntry
from ci.report import words
from ci.stage import Finding


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    pipeline = Pipeline.at(tmp_path)
    for name, needs in (("validate", ()), ("build", ("validate",)), ("test", ("validate",)), ("push", ("build", "test"))):
        pipeline.add(name, passing(), needs=needs)
    facts = Facts(commit="4f1c2ab" + "0" * 33, dirty=("a", "b"))
    return RunRecord.begin(pipeline.root, make_plan(pipeline.config, facts, pipeline.stages), facts)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.04, "0.0 s"), (41.26, "41.3 s"), (99.94, "99.9 s"), (99.96, "1 min 40 s"), (125.4, "2 min 05 s"), (3599.6, "60 min 00 s")],
)
def test_durations(value: float, expected: str) -> None:
    assert words.seconds(value) == expected


def test_first_line_names_version_subject_commit_and_where_it_runs(record: RunRecord) -> None:
    assert words.head(record) == "weighbridge 0.1.0 · small @ 4f1c2ab (dirty: 2 files) · local run"
    record.facts = Facts(commit="4f1c2ab", host="github", event="pull_request")
    assert words.head(record) == "weighbridge 0.1.0 · small @ 4f1c2ab · GitHub, pull request"


def test_engine_line_names_tier_version_and_why(record: RunRecord) -> None:
    assert words.engine(record) == "engine   not needed"
    record.engine = {"engine": "pocket", "tier": "rootless (single uid)", "version": "0.1.0", "why": ""}
    assert words.engine(record) == "engine   pocket, rootless (single uid) · 0.1.0"
    assert words.engine(record, "docker").endswith("    docker is here too: --engine dagger")
    record.engine = {"engine": "dagger", "version": "v0.21.8", "why": "--engine tcp://engine:8080"}
    assert words.engine(record, "docker") == "engine   dagger · v0.21.8 · --engine tcp://engine:8080"


def test_base_line_says_what_was_not_used_and_why(record: RunRecord) -> None:
    assert words.base(record) == "base     not needed"
    record.base = {"kind": "host", "description": "python 3.11.7 root file system", "tried": ["python:3.11-slim: no route (2 s)"]}
    assert words.base(record) == (
        "base     host → python 3.11.7 root file system    python:3.11-slim: no route (2 s); releases refuse this base"
    )
    record.base = {"kind": "image", "description": "python:3.11-slim", "identity": "sha256:" + "a" * 64, "tried": []}
    assert words.base(record) == "base     python:3.11-slim · sha256:aaaaaaaaaaaa…"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (StageEntry(name="build", status="passed", seconds=14.1, summary="212 MB"), " ✓ build            14.1 s   212 MB"),
        (
            StageEntry(name="build", status="passed", seconds=0.9, summary="212 MB", execs={"ran": 1, "cached": 7}),
            " ✓ build             0.9 s   212 MB · 8 steps, 7 cached",
        ),
        (
            StageEntry(name="test", status="passed", seconds=0.9, execs={"ran": 0, "cached": 1}),
            " ✓ test              0.9 s   1 step, all cached",
        ),
        (
            StageEntry(name="validate", status="reused", why="none of its inputs changed"),
            " = validate                  reused: none of its inputs changed",
        ),
        (StageEntry(name="test", status="failed", seconds=5.2, summary="1 failed"), " ✗ test              5.2 s   1 failed"),
    ],
)
def test_stage_lines(entry: StageEntry, expected: str) -> None:
    assert words.stage(entry, 12) == expected


def test_a_failure_shows_places_last_words_and_what_to_do(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/ci/__main__.py"])
    entry = record.stages["test"]
    entry.failure = Failure(
        message="1 failed, 147 passed",
        exit=1,
        hint="look there",
        tail="E   AssertionError\n",
        findings=(Finding("assert chunks[-1]", "tests/test_server.py", 61, "tests/test_server.py::test_stream"),),
        again=("-k", "test_stream and not slow"),
    )
    record.log("test").write_text("…")
    assert words.failure(entry, record) == [
        "",
        "   tests/test_server.py::test_stream        tests/test_server.py:61",
        "     assert chunks[-1]",
        "",
        "   E   AssertionError",
        "",
        "   look there",
        "",
        "   again, just this     python -m ci run --only test -- -k 'test_stream and not slow'",
        f"   whole output         .weighbridge/runs/{record.id}/logs/test.log",
        "",
    ]


def test_many_findings_are_cut_and_counted(record: RunRecord) -> None:
    entry = record.stages["test"]
    entry.failure = Failure(message="x", exit=1, findings=tuple(Finding("bad", "a.py", number) for number in range(1, 13)))
    lines = words.failure(entry, record)
    assert sum("a.py:" in line for line in lines) == 10
    assert "   and 2 more" in lines


def test_an_infrastructure_failure_points_to_the_engines_words(record: RunRecord) -> None:
    entry = record.stages["build"]
    entry.failure = Failure(message="the engine ended", exit=5)
    record.log("engine").write_text("out of memory\n")
    assert any("logs/engine.log" in line for line in words.failure(entry, record))


def test_end_of_a_passed_run(record: RunRecord) -> None:
    record.exit, record.status, record.seconds = 0, "passed", 41.3
    record.stages["push"].summary = "sha256:1c0f… → .weighbridge/oci"
    assert words.end(record) == ["passed in 41.3 s    sha256:1c0f… → .weighbridge/oci", f"record .weighbridge/runs/{record.id}"]


def test_end_of_a_failed_run_says_what_did_not_run(record: RunRecord) -> None:
    record.exit = 1
    record.stages["test"].status = "failed"
    record.stages["build"].status = "cancelled"
    record.stages["push"].status, record.stages["push"].why = "skipped", "not run: test failed"
    assert words.end(record)[0] == "stopped: test failed (exit 1). Cancelled: build. Not run: push."


def test_nothing_changed_names_the_run_that_did_the_work(record: RunRecord) -> None:
    for name, entry in record.stages.items():
        entry.status, entry.from_run = "reused", f"20261121-01450{len(name)}"
    record.seconds, record.facts = 0.21, Facts(commit="4f1c2ab")
    assert words.nothing_changed(record) == (
        "weighbridge 0.1.0 · small @ 4f1c2ab · nothing changed since run 20261121-014508 (passed): 4 stages reused in 0.2 s"
    )


def test_the_plan_says_what_the_run_may_take_and_will_probably_take(record: RunRecord) -> None:
    record.budget = {"minutes": 10.0, "expected": 100.0, "unknown": []}
    assert words.plan(record) == "plan     validate · build · test · push    budget 10 min, expected 1 min 40 s"
    record.budget = {"minutes": 0, "expected": 5.0, "unknown": ["push"]}
    assert words.plan(record).endswith("    expected at least 5.0 s")


def test_what_a_stage_met_besides_its_work_is_in_its_line() -> None:
    tried = [Attempt(number=1, seconds=1.0, message="503")]
    entry = StageEntry(name="push", status="passed", seconds=2.0, summary="pushed", attempts=tried, waited=12.04, waited_for="GPU 0")
    assert words.stage(entry, 5) == " ✓ push       2.0 s   pushed · attempt 2 · waited 12.0 s"


def test_an_exceeded_budget_says_what_took_the_time_and_what_to_do(record: RunRecord) -> None:
    record.exit, record.status = 6, "budget"
    record.stages["build"].status = "cancelled"
    record.budget = {"minutes": 10.0, "spent": ["build         9 min 59 s   still at work"]}
    lines = words.end(record)
    assert lines[0] == "stopped: the time budget of 10 min was exceeded (exit 6). Cancelled: build."
    assert lines[1:4] == ["", "   what took the time", "     build         9 min 59 s   still at work"]
    assert [line for line in lines if "--budget 20" in line]
