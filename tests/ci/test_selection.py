"""Which stages a person picks, and which are done again."""

from pathlib import Path

import pytest
from pipelines import Done, Pipeline, passing, statuses

from ci.errors import UsageError
from ci.selection import Selection
from ci.stage import Context


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    pipeline = Pipeline.at(tmp_path)
    pipeline.add("validate", passing())
    pipeline.add("build", passing(), needs=("validate",))
    pipeline.add("test", passing(), needs=("validate",))
    pipeline.add("push", passing(), needs=("build", "test"))
    return pipeline


@pytest.mark.parametrize(
    ("selection", "out", "again"),
    [
        (Selection(), {}, {}),
        (Selection(only=("build",)), {"test": "--only", "push": "--only"}, {}),
        (Selection(skip=("test",)), {"test": "--skip"}, {}),
        (Selection(start=("build",)), {}, {"build": "--from", "push": "--from"}),
        (Selection(start=("build",), only=("build",)), {"test": "--only", "push": "--only"}, {"build": "--from", "push": "--from"}),
        (Selection(force=("test",)), {}, {"test": "--force"}),
        (Selection(everything=True), {}, dict.fromkeys(("validate", "build", "test", "push"), "--force")),
    ],
)
def test_what_is_left_out_and_what_is_done_again(
    pipeline: Pipeline, selection: Selection, out: dict[str, str], again: dict[str, str]
) -> None:
    assert selection.left_out(pipeline.stages) == {name: f"not asked for ({option})" for name, option in out.items()}
    assert selection.again(pipeline.stages) == again


def test_from_leaves_out_what_nothing_after_it_needs(pipeline: Pipeline) -> None:
    pipeline.add("docs", passing())
    assert Selection(start=("push",)).left_out(pipeline.stages) == {"docs": "not asked for (--from)"}


@pytest.mark.parametrize(
    "selection", [Selection(only=("biuld",)), Selection(skip=("biuld",)), Selection(start=("biuld",)), Selection(force=("biuld",))]
)
def test_a_name_that_is_no_stage_is_refused(pipeline: Pipeline, selection: Selection) -> None:
    with pytest.raises(UsageError, match=r'there is no stage "biuld" \(did you mean "build"\?\)'):
        selection.left_out(pipeline.stages)


def test_skipping_a_stage_skips_what_needs_it(pipeline: Pipeline) -> None:
    record = pipeline.run(selection=Selection(skip=("test",)))
    assert statuses(record) == {"validate": "passed", "build": "passed", "test": "skipped", "push": "skipped"}
    assert record.stages["push"].why == "needs test"


def test_force_repeats_a_stage_and_an_equal_result_stops_there(pipeline: Pipeline) -> None:
    pipeline.run()
    record = pipeline.run(selection=Selection(force=("build",)))
    assert statuses(record) == {"validate": "reused", "build": "passed", "test": "reused", "push": "reused"}
    assert record.stages["build"].why == "asked for again (--force)"


def test_from_repeats_a_stage_and_all_after_it(pipeline: Pipeline) -> None:
    pipeline.run()
    record = pipeline.run(selection=Selection(start=("build",)))
    assert statuses(record) == {"validate": "reused", "build": "passed", "test": "reused", "push": "passed"}


def test_measurements_are_made_anew_only_for_stages_picked_by_name(pipeline: Pipeline) -> None:
    """Everything forced, the engine answers with the measurements of the run that passed; a stage forced by its name measures again."""
    tokens: list[str] = []

    async def evaluate(ctx: Context, _needs: object) -> Done:
        tokens.append(ctx.measurement)
        return Done("fine")

    pipeline.add("evaluate", evaluate)
    pipeline.run()
    pipeline.run(selection=Selection(everything=True))
    pipeline.run(selection=Selection(force=("evaluate",)))
    first, everything, named = tokens
    assert first == everything != named
    assert first
    assert named
