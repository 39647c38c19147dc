"""The runner's limits with real stages: time, attempts, the budget and turns."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from pipelines import CONFIG, Done, Pipeline, Seen, passing, statuses

from ci.errors import InfraError, UsageError
from ci.record import RunRecord
from ci.runner import execute
from ci.stage import Context, GateBlocked, StageFailed

FAST = "run: {backoff: 0.001, attempts: 3}\n"


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline.at(tmp_path)


def configure(pipeline: Pipeline, text: str) -> None:
    (pipeline.root / "configs" / "pipeline.yaml").write_text(CONFIG + text)


def run(pipeline: Pipeline, seen: Seen | None = None, **options: Any) -> RunRecord:
    return execute(replace(pipeline.request(), **options), seen or Seen())


async def hanging(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
    await anyio.sleep_forever()
    return Done("never")


def failing(times: int, error: Callable[[], Exception], tried: list[int]) -> Any:
    async def work(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        tried.append(len(tried) + 1)
        if len(tried) <= times:
            raise error()
        return Done("fine")

    return work


# --- time limits


def test_a_stage_that_hangs_is_stopped_and_says_what_to_do(pipeline: Pipeline) -> None:
    ended: list[str] = []

    async def evaluate(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("evaluate")
        return Done("never")

    configure(pipeline, "stages: {evaluate: {timeout: 2}}\n")
    pipeline.add("evaluate", evaluate)
    pipeline.add("push", passing(), needs=("evaluate",))
    record = pipeline.run()
    assert (record.exit, statuses(record), ended) == (1, {"evaluate": "failed", "push": "skipped"}, ["evaluate"])
    failure = record.stages["evaluate"].failure
    assert failure is not None
    assert failure.message == "took longer than 2 s and was stopped"
    assert "stages.evaluate.timeout" in failure.hint
    assert record.stages["evaluate"].seconds >= 2


def test_the_limit_of_all_stages_holds_where_none_is_named(pipeline: Pipeline) -> None:
    configure(pipeline, "run: {timeout: 0.05}\n")
    pipeline.add("build", hanging)
    assert pipeline.run().stages["build"].summary == "took longer than 0.05 s and was stopped"


def test_what_a_stage_makes_of_being_stopped_is_not_taken_for_infrastructure(pipeline: Pipeline) -> None:
    """The SDK turns a request that is cancelled into an error of its connection; trying that again would hang again."""
    tried: list[int] = []

    async def evaluate(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        tried.append(1)
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            raise ConnectionError("closed") from None
        return Done("never")

    configure(pipeline, "run: {backoff: 0.001}\nstages: {evaluate: {timeout: 2}}\n")
    pipeline.add("evaluate", evaluate)
    record = pipeline.run()
    assert (record.exit, len(tried)) == (1, 1)
    assert "took longer" in record.stages["evaluate"].summary


def test_limits_of_a_stage_that_does_not_exist_are_refused(pipeline: Pipeline) -> None:
    configure(pipeline, "stages: {evalute: {timeout: 1}}\n")
    pipeline.add("evaluate", passing())
    with pytest.raises(UsageError, match='stages: there is no stage "evalute"'):
        pipeline.run()


# --- attempts


def test_infrastructure_is_tried_again_and_everybody_sees_it(pipeline: Pipeline) -> None:
    configure(pipeline, FAST)
    tried: list[int] = []
    pipeline.add("push", failing(2, lambda: InfraError("the registry answered 503"), tried))
    seen = Seen()
    record = pipeline.run(seen)
    assert (record.exit, tried) == (0, [1, 2, 3])
    kept = json.loads((record.directory / "run.json").read_text())["stages"][0]["attempts"]
    assert [(attempt["number"], attempt["message"]) for attempt in kept] == [
        (1, "the registry answered 503"),
        (2, "the registry answered 503"),
    ]
    noted = [line for kind, line in seen.events if kind == "noted"]
    assert [line.partition(", again in")[0] for line in noted] == ["push: attempt 1 of 3 failed", "push: attempt 2 of 3 failed"]
    assert all(line.endswith("s: the registry answered 503") for line in noted)


def test_attempts_come_to_an_end(pipeline: Pipeline) -> None:
    configure(pipeline, "run: {backoff: 0.001}\nstages: {push: {attempts: 2}}\n")
    tried: list[int] = []
    pipeline.add("push", failing(9, lambda: InfraError("no registry"), tried))
    record = pipeline.run()
    assert (record.exit, tried, len(record.stages["push"].attempts)) == (5, [1, 2], 1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (lambda: StageFailed("two tests failed"), 1),
        (lambda: GateBlocked("below its floor"), 3),
        (lambda: InfraError("no login", lasting=True), 5),
        (lambda: OSError(28, "No space left on device"), 5),
        (lambda: KeyError("a bug"), 70),
    ],
)
def test_what_trying_again_does_not_mend_is_not_tried_again(pipeline: Pipeline, error: Callable[[], Exception], code: int) -> None:
    configure(pipeline, FAST)
    tried: list[int] = []
    pipeline.add("test", failing(9, error, tried))
    record = pipeline.run()
    assert (record.exit, tried, record.stages["test"].attempts) == (code, [1], [])


def test_the_pause_doubles_and_is_spread(pipeline: Pipeline) -> None:
    from ci.terms import terms_of

    configure(pipeline, "run: {backoff: 8, attempts: 10}\n")
    pipeline.add("push", passing())
    terms = terms_of(pipeline.config, pipeline.stages)["push"]
    for number, least, most in ((1, 4, 12), (2, 8, 24), (3, 16, 48), (9, 30, 90)):
        pauses = {terms.again_in(InfraError("no"), number) for _ in range(20)}
        assert all(pause is not None and least <= pause <= most for pause in pauses)
        assert len(pauses) > 1
    assert terms.again_in(InfraError("no"), 10) is None


def test_ctrl_c_ends_the_pause_before_another_attempt(pipeline: Pipeline) -> None:
    configure(pipeline, "run: {backoff: 60}\n")

    class Interrupting(Seen):
        def noted(self, entry: Any, line: str) -> None:
            super().noted(entry, line)
            os.kill(os.getpid(), signal.SIGINT)

    pipeline.add("push", failing(9, lambda: InfraError("no"), []))
    record = pipeline.run(Interrupting())
    assert (record.exit, statuses(record)) == (130, {"push": "skipped"})


# --- going on


def test_a_run_that_keeps_going_leaves_out_only_what_needs_the_failed_stage(pipeline: Pipeline) -> None:
    tested = anyio.Event()

    async def test(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        tested.set()
        raise StageFailed("one failed")

    async def build(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        await tested.wait()
        await anyio.lowlevel.checkpoint()
        return Done("built")

    pipeline.add("test", test)
    pipeline.add("build", build)
    pipeline.add("evaluate", passing(), needs=("build",))
    pipeline.add("package", passing(), needs=("evaluate", "test"))
    pipeline.add("push", passing(), needs=("package",))
    record = run(pipeline, keep_going=True)
    assert record.exit == 1
    assert statuses(record) == {"test": "failed", "build": "passed", "evaluate": "passed", "package": "skipped", "push": "skipped"}
    assert record.stages["push"].why == "not run: test failed"


def test_of_several_failures_the_one_that_counts_most_is_the_exit_code(pipeline: Pipeline) -> None:
    pipeline.add("evaluate", failing(9, lambda: GateBlocked("below its floor"), []))
    pipeline.add("test", failing(9, lambda: StageFailed("one failed"), []))
    pipeline.add("push", passing(), needs=("evaluate", "test"))
    record = run(pipeline, keep_going=True)
    assert (record.exit, record.stages["push"].why) == (1, "not run: evaluate, test failed")


def test_a_hanging_stage_does_not_stop_a_run_that_keeps_going(pipeline: Pipeline) -> None:
    configure(pipeline, "stages: {evaluate: {timeout: 0.05}}\n")
    pipeline.add("evaluate", hanging)
    pipeline.add("build", passing())
    assert statuses(run(pipeline, keep_going=True)) == {"evaluate": "failed", "build": "passed"}


# --- the budget


def test_a_budget_that_is_exceeded_is_6_and_says_what_took_the_time(pipeline: Pipeline) -> None:
    pipeline.add("build", passing())
    pipeline.add("evaluate", hanging, needs=("build",))
    pipeline.add("push", passing(), needs=("evaluate",))
    record = run(pipeline, budget=0.1)
    assert (record.exit, record.status) == (6, "budget")
    assert statuses(record) == {"build": "passed", "evaluate": "cancelled", "push": "skipped"}
    assert record.stages["push"].why == "not run: the time budget was exceeded"
    assert record.budget["spent"][0].startswith("evaluate")
    assert "still at work" in record.budget["spent"][0]
    assert record.budget["minutes"] == 0.1


def test_a_budget_that_is_gone_before_anything_began_is_6_as_well(pipeline: Pipeline) -> None:
    pipeline.add("build", passing())
    record = run(pipeline, budget=1.0, started=time.monotonic() - 60.0)
    assert (record.exit, statuses(record)) == (6, {"build": "skipped"})
    assert record.budget["spent"] == ["no stage had begun: the engine or the base image was not ready"]


def test_policy_gives_the_budget_and_the_command_line_another(pipeline: Pipeline) -> None:
    pipeline.facts = replace(pipeline.facts, event="pull_request", number=7)
    pipeline.add("build", passing())
    assert run(pipeline).budget["minutes"] == 10
    pipeline.add("build", passing("other"))
    (pipeline.root / ".weighbridge" / "runs" / "latest").unlink()
    assert run(replace(pipeline, cache=pipeline.cache / "other"), budget=0.0).budget["minutes"] == 0


def test_a_run_that_usually_takes_longer_is_warned_before_it_starts(pipeline: Pipeline) -> None:
    earlier = pipeline.root / ".weighbridge" / "runs" / "20261101-000000-abc"
    earlier.mkdir(parents=True)
    stages = [{"name": "build", "status": "passed", "seconds": 400.0}, {"name": "test", "status": "passed", "seconds": 300.0}]
    (earlier / "run.json").write_text(json.dumps({"stages": stages}))
    pipeline.add("build", passing())
    pipeline.add("test", passing(), needs=("build",))
    seen = Seen()
    record = run(pipeline, seen, budget=10.0)
    told = "the budget of 10 min is at risk: 11 min 40 s more are expected (build 6 min 40 s, test 5 min 00 s)"
    assert seen.events[1] == ("noted", told) or ("noted", told) in seen.events
    assert (record.exit, record.budget["risk"], record.stages["build"].expected) == (0, told, 400.0)
    assert [line for kind, line in seen.events if kind == "noted"] == [told]


# --- turns


def test_no_more_stages_at_once_than_configured(pipeline: Pipeline) -> None:
    """Stages meet in pairs: with fewer turns than two the run would hang, with more than two it would show."""
    configure(pipeline, "run: {concurrency: 2}\n")
    met = [anyio.Event() for _ in range(2)]
    working: list[str] = []
    arrived: list[int] = []

    def meeting(name: str) -> Any:
        async def work(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
            working.append(name)
            arrived.append(len(working))
            pair, second = divmod(len(arrived) - 1, 2)
            if second:
                met[pair].set()
            await met[pair].wait()
            working.remove(name)
            return Done("fine")

        return work

    for number in range(4):
        pipeline.add(f"stage{number}", meeting(f"stage{number}"))
    record = pipeline.run()
    assert (record.exit, max(arrived)) == (0, 2)
