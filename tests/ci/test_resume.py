"""Going on with a run: nothing that passed is repeated, and nothing that changed is mixed in."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pipelines import Done, Pipeline, statuses

from ci.errors import UsageError
from ci.resume import load
from ci.selection import Selection
from ci.stage import Context, StageFailed

STAGES = {"validate": (), "build": ("validate",), "test": ("validate",), "push": ("build", "test")}


@pytest.fixture
def calls() -> list[str]:
    return []


def made(place: Path, calls: list[str], *, failing: str = "", new: bool = True) -> Pipeline:
    """Make a pipeline whose stages note that they ran, and one of which fails."""
    pipeline = Pipeline.at(place) if new else Pipeline(place / "repository", place / "cache")

    def working(name: str) -> Any:
        async def work(ctx: Context, _needs: Mapping[str, Any]) -> Done:
            calls.append(name)
            if name == failing:
                raise StageFailed("no")
            ctx.record.artifact(f"{name}.txt").write_text(name)
            return Done("fine")

        return work

    for name, needs in STAGES.items():
        pipeline.add(name, working(name), needs=needs, files=("service",) if name == "build" else ())
    return pipeline


def test_what_passed_is_not_repeated_even_without_a_memo(tmp_path: Path, calls: list[str]) -> None:
    failed = made(tmp_path, calls, failing="push").run()
    shutil.rmtree(tmp_path / "cache")
    again = made(tmp_path, calls, new=False)
    record = again.run(resume=load(again.root, "last"))
    assert sorted(calls) == ["build", "push", "push", "test", "validate"]
    assert (record.exit, record.resumed) == (0, failed.id)
    assert statuses(record) == {"validate": "reused", "build": "reused", "test": "reused", "push": "passed"}
    assert record.stages["build"].why == f"passed in run {failed.id}"
    assert (record.directory / "build.txt").read_text() == "build"


def test_forced_stages_that_passed_are_not_forced_again(tmp_path: Path, calls: list[str]) -> None:
    made(tmp_path, calls).run()
    failing = made(tmp_path, calls, failing="push", new=False)
    failed = failing.run(selection=Selection(everything=True))
    calls.clear()
    again = made(tmp_path, calls, new=False)
    resumed = load(again.root, failed.id)
    assert resumed.selection == Selection(everything=True)
    assert again.run(resume=resumed, selection=resumed.selection).exit == 0
    assert calls == ["push"]


def test_a_changed_input_refuses_the_whole_and_leaves_no_record(tmp_path: Path, calls: list[str]) -> None:
    failed = made(tmp_path, calls, failing="push").run()
    again = made(tmp_path, calls, new=False)
    (again.root / "service" / "main.py").write_text("print('edited')\n")
    with pytest.raises(UsageError, match=rf"run {failed.id} cannot be resumed: since build passed there, service/main.py changed"):
        again.run(resume=load(again.root, "last"))
    assert (again.root / ".weighbridge" / "runs" / "latest").resolve().name == failed.id
    (again.root / "service" / "main.py").write_text("print('hello')\n")  # as it was: dirty in the same way is the same
    assert again.run(resume=load(again.root, "last")).exit == 0


def test_a_chain_of_resumed_runs_keeps_what_the_first_did(tmp_path: Path, calls: list[str]) -> None:
    first = made(tmp_path, calls, failing="push").run()
    for _ in range(2):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        failing = made(tmp_path, calls, failing="push", new=False)
        record = failing.run(resume=load(failing.root, "last"))
        assert record.stages["validate"].from_run == first.id
    assert sorted(calls) == ["build", "push", "push", "push", "test", "validate"]


def test_a_damaged_record_is_worked_for_again(tmp_path: Path, calls: list[str]) -> None:
    failed = made(tmp_path, calls, failing="push").run()
    shutil.rmtree(tmp_path / "cache")
    (failed.directory / "build.txt").write_text("something else")
    (failed.directory / "passed" / "test.json").write_text("{")
    calls.clear()
    again = made(tmp_path, calls, new=False)
    assert again.run(resume=load(again.root, "last")).exit == 0
    assert sorted(calls) == ["build", "push", "test"]


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_path_is_not_the_name_of_a_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a run"):
        load(tmp_path, name)


def test_no_run_to_resume_says_where_runs_are(tmp_path: Path, calls: list[str]) -> None:
    pipeline = made(tmp_path, calls)
    with pytest.raises(UsageError, match="there is no run to resume"):
        load(pipeline.root, "last")
    with pytest.raises(UsageError, match="there is no run 20200101-000000-abc to resume"):
        load(pipeline.root, "20200101-000000-abc")


PROGRAM = """
import os, signal, sys
from pathlib import Path
import anyio
from pipelines import Done, Pipeline, passing
from ci.resume import load
from ci.runner import execute
from pipelines import Seen

pipeline = Pipeline(Path(sys.argv[1]), Path(sys.argv[2]))

def working(name):
    async def work(ctx, needs):
        with Path(sys.argv[3]).open("a") as log:
            log.write(name + "\\n")
        if name == sys.argv[4]:
            os.kill(os.getpid(), signal.SIGKILL)
        return Done("fine")
    return work

for name, needs in {"validate": (), "build": ("validate",), "push": ("build",)}.items():
    pipeline.add(name, working(name), needs=needs)
resumed = load(pipeline.root, "last") if sys.argv[4] == "" else None
sys.exit(execute(pipeline.request(resume=resumed), Seen()).exit)
"""


@pytest.mark.parametrize(
    ("killed", "repeated"), [("validate", ["validate", "build", "push"]), ("build", ["build", "push"]), ("push", ["push"])]
)
def test_after_a_kill_nothing_that_passed_is_repeated(tmp_path: Path, killed: str, repeated: list[str]) -> None:
    pipeline = Pipeline.at(tmp_path)
    log = tmp_path / "log"
    repository = Path(__file__).resolve().parents[2]

    def run(at: str) -> int:
        arguments = [sys.executable, "-c", PROGRAM, str(pipeline.root), str(pipeline.cache), str(log), at]
        path = f"{repository}:{repository / 'tests' / 'support'}"
        return subprocess.run(arguments, check=False, env={**os.environ, "PYTHONPATH": path}).returncode

    assert run(killed) == -signal.SIGKILL
    log.unlink()
    shutil.rmtree(pipeline.cache)
    assert run("") == 0
    assert log.read_text().split() == repeated
