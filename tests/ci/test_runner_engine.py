"""The runner on the embedded engine: a step that hangs and one that is killed, in real containers, and what is left of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import busybox_image
import pytest
from pipelines import CONFIG, Done, Pipeline, Seen, statuses
from processes import left_over

from ci.engine import EngineChoice, pocket_command
from ci.stage import Context


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    busybox_image.make_base(tmp_path / "base.tar")
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POCKET_CACHE", str(tmp_path / "cache" / "pocket"))
    found = Pipeline.at(tmp_path)
    found.engine = EngineChoice(kind="pocket", cli=pocket_command())
    return found


def step(*argv: str) -> Any:
    """Make a stage's work that is one step in a container."""

    async def work(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        base = ctx.dag.host().file(str(ctx.root.parent / "base.tar"))
        await ctx.dag.container().import_(base).with_exec(list(argv)).sync()
        return Done("fine")

    return work


def test_a_step_that_hangs_is_ended_with_everything_and_the_others_go_on(pipeline: Pipeline, tmp_path: Path) -> None:
    (pipeline.root / "configs" / "pipeline.yaml").write_text(CONFIG + "stages: {evaluate: {timeout: 3}}\n")
    pipeline.add("evaluate", step("/bin/sh", "-c", "echo begun; sleep 3600"), engine=True)
    pipeline.add("push", step("/bin/sh", "-c", "true"), engine=True, needs=("evaluate",))
    record = pipeline.run(Seen())
    assert (record.exit, statuses(record)) == (1, {"evaluate": "failed", "push": "skipped"})
    failure = record.stages["evaluate"].failure
    assert failure is not None
    assert (failure.message, failure.tail) == ("took longer than 3 s and was stopped", "begun")
    assert left_over(tmp_path / "cache") == []


def test_a_step_that_is_killed_like_the_kernel_does_without_memory_says_what_to_do(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.add("test", step("/bin/sh", "-c", "kill -9 $$"), engine=True)
    record = pipeline.run()
    failure = record.stages["test"].failure
    assert failure is not None
    assert record.exit == 1
    assert failure.message == "killed (exit code 137), probably for lack of memory: /bin/sh -c kill -9 $$"
    assert failure.hint.startswith("run it where there is more memory")
    assert left_over(tmp_path / "cache") == []
