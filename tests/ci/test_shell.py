"""Looking into the container of a failed stage: kept as it was, with what the stage had written, in a pipe and on a terminal."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from busybox_image import make_base
from pipelines import CONFIG, Pipeline, passing
from terminals import on_terminal

from ci import keep
from ci.commands.shell import enter
from ci.engine import EngineChoice, choose
from ci.errors import InfraError
from ci.record import RunRecord
from ci.report.plain import Plain
from ci.runner import execute
from ci.stage import Context, StageFailed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Make a pipeline on the embedded engine, with a cache of its own and an image in the repository."""
    pipeline = Pipeline.at(tmp_path)
    pipeline.engine = choose("pocket", "", {})
    monkeypatch.setenv("POCKET_CACHE", str(tmp_path / "pocket"))
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(pipeline.cache))
    make_base(pipeline.root / "base.tar")
    return pipeline


async def step(ctx: Context, _needs: Mapping[str, Any]) -> Any:
    """Fail in a step, after it wrote into the root file system, into a mounted directory and into a cache volume."""
    mounted = ctx.dag.directory().with_new_file("given.txt", "given\n")
    container = ctx.dag.container().import_(ctx.dag.host().file(str(ctx.root / "base.tar"))).with_mounted_directory("/work", mounted)
    container = container.with_mounted_cache("/kept", ctx.dag.cache_volume("c4-shell")).with_workdir("/work")
    container = container.with_mounted_secret("/secret.txt", ctx.dag.set_secret("s", "canary-4711"))
    await container.with_exec(["sh", "-c", "echo made > made.txt; echo here > /here.txt; echo volume > /kept/x; exit 3"]).sync()
    return await passing()(ctx, _needs)


def failed(pipeline: Pipeline) -> RunRecord:
    request = replace(pipeline.request(), keep_failed=True, environment=keep.SESSION)
    return execute(request, Plain(sys.stdout))


def ci(pipeline: Pipeline, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ci", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=pipeline.root, env=environment, capture_output=True, text=True, check=False)


def test_the_shell_shows_what_the_failed_step_had_written(pipeline: Pipeline) -> None:
    pipeline.add("build", step, engine=True)
    record = failed(pipeline)
    assert record.exit == 1
    kept = keep.archive_of(pipeline.cache, pipeline.root, "build")
    assert keep.told(kept)["run"] == record.id
    looked = ci(
        pipeline, "shell", "build", "--", "sh", "-c", "pwd; cat given.txt made.txt /here.txt; ls /kept; cat /secret.txt 2>/dev/null; exit 9"
    )
    assert (looked.returncode, looked.stdout) == (9, "/work\ngiven\nmade\nhere\n"), looked.stderr
    assert f"the container of run {record.id}, whose last step was: sh -c" in looked.stderr
    line = ("sh", "-c", 'cd "$0" && exec "$@"', str(pipeline.root), sys.executable, "-m", "ci", "shell", "build")
    with on_terminal(*line, env={**os.environ, "PYTHONPATH": str(ROOT)}) as terminal:
        terminal.wait_for("# ")  # what is typed before it reads is lost
        terminal.type("cat made.txt; test -t 0 && echo on a $((40 + 2))\n")
        terminal.wait_for("made\r\n")
        terminal.wait_for("on a 42")
        terminal.type("exit 4\n")
        assert terminal.end() == 4


def test_a_stage_may_name_the_container_itself(pipeline: Pipeline) -> None:
    async def judged(ctx: Context, _needs: Mapping[str, Any]) -> Any:
        container = ctx.dag.container().import_(ctx.dag.host().file(str(ctx.root / "base.tar")))
        raise StageFailed("not good enough", container=container.with_exec(["sh", "-c", "echo report > /report.txt"]))

    pipeline.add("test", judged, engine=True)
    failed(pipeline)
    assert ci(pipeline, "shell", "test", "--", "cat", "/report.txt").stdout == "report\n"


def test_what_fails_without_a_container_leaves_none_and_the_one_before_goes(pipeline: Pipeline) -> None:
    async def work(ctx: Context, _needs: Mapping[str, Any]) -> Any:
        await ctx.dag.container().import_(ctx.dag.host().file(str(ctx.root / "base.tar"))).with_exec(["true"]).sync()
        raise StageFailed("no container")

    pipeline.add("build", work, engine=True)
    kept = keep.archive_of(pipeline.cache, pipeline.root, "build")
    kept.parent.mkdir(parents=True)
    kept.write_text("an older one")
    assert failed(pipeline).exit == 1
    assert keep.told(kept) == {}
    assert not kept.exists()


def test_a_stage_that_is_none_or_has_no_container_is_said(pipeline: Pipeline) -> None:
    (pipeline.root / "configs" / "pipeline.yaml").write_text(CONFIG)
    unknown = ci(pipeline, "shell", "biuld")
    assert (unknown.returncode, 'did you mean "build"?' in unknown.stderr) == (2, True)
    assert "works without a container" in ci(pipeline, "shell", "push").stderr


def test_a_dagger_engine_opens_it_through_its_own_command_line(tmp_path: Path) -> None:
    """The program that stands for the Dagger CLI prints what it was called with; no engine is here to show more."""
    cli = tmp_path / "dagger"
    cli.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$0.called"\n')
    cli.chmod(0o755)
    kept = tmp_path / "build.tar"
    kept.write_text("")
    kept.with_suffix(".json").write_text(json.dumps({"run": "r", "command": ""}))
    assert enter(kept, EngineChoice(kind="dagger", cli=(str(cli),)), []) == 0
    called = Path(f"{cli}.called").read_text().split()
    assert called == ["core", "container", "import", f"--source={kept}", "terminal"]
    with pytest.raises(InfraError, match="there is no Dagger CLI"):
        enter(kept, EngineChoice(kind="dagger"), [])
