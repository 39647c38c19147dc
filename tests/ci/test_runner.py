"""The runner with real async functions as stages: order, reuse, failures and ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from pipelines import Done, Pipeline, Seen, passing, statuses

from ci.errors import InfraError
from ci.exits import BUG
from ci.runner import execute
from ci.stage import Context, Finding, GateBlocked, StageFailed


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline.at(tmp_path)


def counting(calls: list[str], name: str, digest: str = "") -> Any:
    async def work(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        calls.append(name)
        return Done("fine", digest)

    return work


def raising(error: BaseException) -> Any:
    async def work(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        raise error

    return work


# --- order


def test_a_stage_gets_the_results_that_it_needs(pipeline: Pipeline) -> None:
    async def package(_ctx: Context, needs: Mapping[str, Any]) -> Done:
        assert list(needs) == ["build"]
        return Done(f"packed {needs['build'].digest}")

    pipeline.add("build", passing(digest="sha256:1"))
    pipeline.add("package", package, needs=("build",))
    record = pipeline.run()
    assert (record.exit, record.stages["package"].summary) == (0, "packed sha256:1")


def test_stages_that_do_not_need_each_other_run_side_by_side(pipeline: Pipeline) -> None:
    """Each waits for the other: one after the other, neither would end."""
    both = anyio.Event(), anyio.Event()

    def meeting(mine: int) -> Any:
        async def work(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
            both[mine].set()
            await both[1 - mine].wait()
            return Done("met")

        return work

    pipeline.add("build", meeting(0))
    pipeline.add("test", meeting(1))
    assert statuses(pipeline.run()) == {"build": "passed", "test": "passed"}


def test_a_stage_starts_before_unrelated_ones_have_ended(pipeline: Pipeline) -> None:
    evaluated = anyio.Event()

    async def test(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        await evaluated.wait()
        return Done("fine")

    async def evaluate(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        evaluated.set()
        return Done("fine")

    pipeline.add("build", passing())
    pipeline.add("test", test)
    pipeline.add("evaluate", evaluate, needs=("build",))
    assert pipeline.run().exit == 0


# --- reuse


def test_the_second_run_reuses_everything_and_starts_no_event_loop(pipeline: Pipeline) -> None:
    calls: list[str] = []
    pipeline.add("validate", counting(calls, "validate"), files=("service",))
    pipeline.add("build", counting(calls, "build"), needs=("validate",), base=True)
    first = pipeline.run()
    seen = Seen()
    second = pipeline.run(seen)
    assert calls == ["validate", "build"]
    assert statuses(second) == {"validate": "reused", "build": "reused"}
    assert second.stages["build"].from_run == first.id
    assert seen.events == [("finished", "passed")]


def test_a_changed_file_runs_its_stage_and_an_equal_result_stops_the_change_there(pipeline: Pipeline) -> None:
    calls: list[str] = []
    pipeline.add("build", counting(calls, "build", digest="sha256:same"), files=("service/*.py",))
    pipeline.add("evaluate", counting(calls, "evaluate"), needs=("build",))
    pipeline.run()
    (pipeline.root / "service" / "main.py").write_text("# a comment\nprint('hello')\n")
    record = pipeline.run()
    assert calls == ["build", "evaluate", "build"]
    assert statuses(record) == {"build": "passed", "evaluate": "reused"}
    assert record.stages["build"].why == "service/main.py changed"


def test_another_result_runs_what_depends_on_it(pipeline: Pipeline) -> None:
    calls: list[str] = []

    async def build(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        return Done("built", digest=(ctx.subject / "main.py").read_text())

    pipeline.add("build", build, files=("service",))
    pipeline.add("test", counting(calls, "test"))
    pipeline.add("evaluate", counting(calls, "evaluate"), needs=("build",))
    pipeline.run()
    (pipeline.root / "service" / "main.py").write_text("print('other')\n")
    record = pipeline.run()
    assert statuses(record) == {"build": "passed", "test": "reused", "evaluate": "passed"}
    assert record.stages["evaluate"].why == "build's result changed"


def test_another_base_is_noticed_when_anything_that_stands_on_it_runs(pipeline: Pipeline) -> None:
    calls: list[str] = []
    pipeline.add("build", counting(calls, "build"), base=True)
    pipeline.add("test", counting(calls, "test"), base=True, files=("service",))
    pipeline.run()
    pipeline.base = "base-2"
    assert statuses(pipeline.run()) == {"build": "reused", "test": "reused"}  # nothing runs, so nobody asks
    (pipeline.root / "service" / "main.py").write_text("print('other')\n")
    assert statuses(pipeline.run()) == {"build": "passed", "test": "passed"}


def test_a_result_whose_artefact_is_gone_is_made_again(pipeline: Pipeline) -> None:
    artefact = pipeline.root / "pushed"

    async def push(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        artefact.write_text("x")
        return Done("pushed")

    pipeline.add("build", passing())
    pipeline.add("push", push, needs=("build",), gone=lambda *_: "" if artefact.exists() else "the target no longer holds it")
    pipeline.run()
    artefact.unlink()
    record = pipeline.run()
    assert statuses(record) == {"build": "reused", "push": "passed"}
    assert record.stages["push"].why == "the target no longer holds it"


def test_reused_stages_leave_the_same_files_in_the_record(pipeline: Pipeline) -> None:
    async def test(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        ctx.record.artifact("junit.xml").write_text("<testsuite/>")
        ctx.record.artifact("deep/samples.jsonl").write_text("{}")
        return Done("fine")

    pipeline.add("test", test)
    first, second = pipeline.run(), pipeline.run()
    assert second.stages["test"].status == "reused"
    for name in ("junit.xml", "deep/samples.jsonl"):
        assert (second.directory / name).read_text() == (first.directory / name).read_text()


def test_failures_are_not_remembered(pipeline: Pipeline) -> None:
    pipeline.add("build", raising(StageFailed("no")))
    assert pipeline.run().exit == 1
    pipeline.add("build", passing())
    assert statuses(pipeline.run()) == {"build": "passed"}


def test_inputs_edited_while_a_stage_runs_are_not_the_ones_it_saw(pipeline: Pipeline) -> None:
    async def build(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        (ctx.subject / "main.py").write_text("print('edited meanwhile')\n")
        return Done("fine")

    pipeline.add("build", build, files=("service",))
    assert statuses(pipeline.run()) == {"build": "passed"}
    assert statuses(pipeline.run()) == {"build": "passed"}  # its own edit is no change now, but the first result was not kept
    assert statuses(pipeline.run()) == {"build": "reused"}


def test_arguments_from_the_command_line_are_neither_reused_nor_remembered(pipeline: Pipeline) -> None:
    given: list[tuple[str, ...]] = []

    async def test(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        given.append(ctx.extra)
        return Done("fine")

    pipeline.add("test", test)
    pipeline.run(only=("test",), extra={"test": ("-k", "one")})
    pipeline.run()
    pipeline.run(only=("test",), extra={"test": ("-k", "one")})
    assert given == [("-k", "one"), (), ("-k", "one")]


# --- failures and their codes


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (StageFailed("two tests failed"), 1, "failed"),
        (GateBlocked("image 0.70 is below its floor 0.90"), 3, "blocked"),
        (InfraError("no registry"), 5, "infra"),
        (ConnectionRefusedError(111, "Connection refused"), 5, "infra"),
        (OSError(28, "No space left on device"), 5, "infra"),
        (TimeoutError("no answer"), 5, "infra"),
        (ExceptionGroup("several", [InfraError("no registry"), StageFailed("tests")]), 1, "failed"),
        (KeyError("a bug"), BUG, "bug"),
    ],
)
def test_whose_fault_it_is_decides_the_exit_code(pipeline: Pipeline, error: Exception, code: int, status: str) -> None:
    pipeline.add("build", raising(error))
    pipeline.add("push", passing(), needs=("build",))
    record = pipeline.run()
    assert (record.exit, record.status) == (code, status)
    assert statuses(record) == {"build": "failed", "push": "skipped"}
    assert record.stages["push"].why == "not run: build failed"


@pytest.mark.parametrize(("outcome", "code"), [(None, 3), (StageFailed("no"), 1), (InfraError("no"), 3)])
def test_a_blocked_gate_lets_tests_end_because_they_may_find_what_counts_more(
    pipeline: Pipeline, outcome: Exception | None, code: int
) -> None:
    """Otherwise the exit code would depend on which of the two was faster."""
    blocked = anyio.Event()

    async def evaluate(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        blocked.set()
        raise GateBlocked("below its floor")

    async def test(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        await blocked.wait()
        await anyio.lowlevel.checkpoint()
        if outcome:
            raise outcome
        return Done("fine")

    pipeline.add("evaluate", evaluate)
    pipeline.add("test", test)
    pipeline.add("push", passing(), needs=("evaluate", "test"))
    record = pipeline.run()
    assert record.exit == code
    assert statuses(record) == {"evaluate": "failed", "test": "failed" if outcome else "passed", "push": "skipped"}


def test_a_failure_of_the_subject_stops_what_is_under_way(pipeline: Pipeline) -> None:
    cleaned: list[str] = []

    async def evaluate(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append("evaluate")
        return Done("never")

    pipeline.add("evaluate", evaluate)
    pipeline.add("test", raising(StageFailed("no")))
    record = pipeline.run()
    assert statuses(record) == {"evaluate": "cancelled", "test": "failed"}
    assert (record.exit, cleaned) == (1, ["evaluate"])


def test_a_failure_keeps_what_a_reader_needs(pipeline: Pipeline) -> None:
    finding = Finding("assert 1 == 2", "tests/test_a.py", 3, "tests/test_a.py::test_b")
    pipeline.add("test", raising(StageFailed("1 failed", tail="E assert", findings=[finding], again=("-k", "test_b"), hint="look")))
    failure = pipeline.run().to_json()["stages"][0]["failure"]
    assert failure == {
        "message": "1 failed",
        "exit": 1,
        "hint": "look",
        "tail": "E assert",
        "findings": [{"message": "assert 1 == 2", "file": "tests/test_a.py", "line": 3, "name": "tests/test_a.py::test_b", "severity": ""}],
        "again": ["-k", "test_b"],
    }


def test_a_bug_keeps_its_traceback(pipeline: Pipeline) -> None:
    pipeline.add("build", raising(KeyError("what")))
    failure = pipeline.run().stages["build"].failure
    assert failure is not None
    assert "Traceback" in failure.tail


def test_a_base_that_cannot_be_had_fails_what_stands_on_it(pipeline: Pipeline) -> None:
    async def refuse(*_: object) -> Any:
        raise InfraError("cannot use some/image")

    pipeline.add("validate", passing())
    pipeline.add("build", passing(), needs=("validate",), base=True)
    record = execute(replace(pipeline.request(), resolve_base=refuse), Seen())
    assert (record.exit, statuses(record)["build"]) == (5, "failed")


def test_a_stage_that_asks_for_what_it_did_not_declare_is_told(pipeline: Pipeline) -> None:
    async def build(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        return Done(str(ctx.dag))

    pipeline.add("build", build)
    assert "declared that it needs no engine" in pipeline.run().stages["build"].summary


# --- events and record


def test_events_tell_the_run_in_order(pipeline: Pipeline) -> None:
    async def build(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        ctx.progress("half way")
        return Done("fine")

    pipeline.add("build", build, base=True)
    seen = Seen()
    pipeline.run(seen)
    assert seen.events == [
        ("began", "small"),
        ("engine", ""),
        ("base", "host"),
        ("started", "build"),
        ("progress", "build: half way"),
        ("passed", "build"),
        ("finished", "passed"),
    ]


def test_only_names_a_stage_and_brings_what_it_needs(pipeline: Pipeline) -> None:
    pipeline.add("validate", passing())
    pipeline.add("build", passing(), needs=("validate",))
    pipeline.add("push", passing(), needs=("build",))
    record = pipeline.run(only=("build",))
    assert (record.exit, statuses(record)) == (0, {"validate": "passed", "build": "passed", "push": "skipped"})


def test_two_runs_at_once_do_not_meet(pipeline: Pipeline, repository: Path) -> None:
    """Two processes in one tree with one cache: each has a run of its own, and both know what happened."""
    program = (
        "from pathlib import Path; from pipelines import Pipeline, passing\n"
        f"pipeline = Pipeline(Path({str(pipeline.root)!r}), Path({str(pipeline.cache)!r}))\n"
        "pipeline.add('build', passing(), files=('service',)); pipeline.add('test', passing())\n"
        "print(pipeline.run().id)"
    )
    path = f"{repository}:{repository / 'tests' / 'support'}"
    command = (sys.executable, "-c", program)
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}) for _ in range(2)]
    said = [process.communicate()[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(set(said)) == 2
    runs = pipeline.root / ".weighbridge" / "runs"
    assert [json.loads((runs / name / "run.json").read_text())["status"] for name in said] == ["passed", "passed"]


def test_ctrl_c_before_the_run_listens_to_signals_is_130_in_the_record_as_well(pipeline: Pipeline) -> None:
    class Interrupting(Seen):
        def began(self, record: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    pipeline.add("build", passing())
    record = pipeline.run(Interrupting())
    assert (record.exit, record.status, statuses(record)) == (130, "interrupted", {"build": "skipped"})
    assert json.loads((record.directory / "run.json").read_text())["exit"] == 130
