"""Runs of several people on one machine that want the same GPU; NVML is played by a library that the tests build."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from nvml import environment

PROGRAM = """
import sys
from pathlib import Path
import anyio
from ci.report.plain import Plain
from ci.runner import execute
from pipelines import Done, Pipeline

async def evaluate(ctx, needs):
    print("works on", ctx.device, *ctx.gpus, flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return Done("fine")

pipeline = Pipeline.at(Path(sys.argv[1]))
(pipeline.root / "configs" / "pipeline.yaml").open("a").write(sys.argv[2])
pipeline.add("evaluate", evaluate, gpu=True)
record = execute(pipeline.request(), Plain(sys.stdout))
print("waited for:", record.stages["evaluate"].waited_for, flush=True)
sys.exit(record.exit)
"""


@contextmanager
def another_run(place: Path, environ: Mapping[str, str], repository: Path, config: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start a run in a process of its own, as another person would in another checkout."""
    place.mkdir()
    path = f"{repository}:{repository / 'tests' / 'support'}"
    command = [sys.executable, "-c", PROGRAM, str(place), config]
    with subprocess.Popen(
        command, env={**environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], words: str) -> str:
    """Read what a run prints until a line holds these words."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return line.strip()
    raise AssertionError(f"never said {words!r}: {seen}")


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """Give the environment of a machine with one GPU."""
    return {**environment(tmp_path, ("GPU-1111", "H200", 143_771, 5)), "WEIGHBRIDGE_LEASES": str(tmp_path / "leases")}


@pytest.mark.parametrize("killed", [False, True], ids=["the first ends", "the first is killed -9"])
def test_the_second_run_waits_for_the_gpu_says_for_whom_and_then_runs(
    tmp_path: Path, machine: dict[str, str], repository: Path, killed: bool
) -> None:
    with another_run(tmp_path / "one", machine, repository) as first:
        assert until(first, "works on") == "works on H200 GPU-1111"
        (run_id,) = [path.name for path in (tmp_path / "one/repository/.weighbridge/runs").glob("2*")]
        with another_run(tmp_path / "two", machine, repository) as second:
            said = until(second, "waits for")
            assert f"evaluate                  waits for GPU 0: held by evaluate of run {run_id} (pid {first.pid}, " in said
            assert ", since " in said
            if killed:
                os.kill(first.pid, signal.SIGKILL)
            else:
                first.communicate("\n")
            assert until(second, "works on") == "works on H200 GPU-1111"
            output, _ = second.communicate("\n")
            assert f"waited for: GPU 0: held by evaluate of run {run_id}" in output
            assert second.returncode == 0
    assert first.returncode == (-signal.SIGKILL if killed else 0)


def test_ctrl_c_while_it_waits_is_130_and_leaves_the_queue(tmp_path: Path, machine: dict[str, str], repository: Path) -> None:
    with another_run(tmp_path / "one", machine, repository) as first:
        until(first, "works on")
        with another_run(tmp_path / "two", machine, repository) as second:
            until(second, "waits for")
            second.send_signal(signal.SIGINT)
            output, _ = second.communicate()
            assert second.returncode == 130
            assert "Traceback" not in output
            assert len(list((tmp_path / "leases").glob("*.claim"))) == 1  # the first one's


def test_two_that_need_little_memory_share_a_gpu(tmp_path: Path, machine: dict[str, str], repository: Path) -> None:
    config = "stages: {evaluate: {gpu_memory: 40}}\n"
    with (
        another_run(tmp_path / "one", machine, repository, config) as first,
        another_run(tmp_path / "two", machine, repository, config) as second,
    ):
        assert until(first, "works on") == until(second, "works on") == "works on H200 GPU-1111"


def test_without_a_gpu_a_stage_works_without_one_and_one_that_insists_is_told(tmp_path: Path, repository: Path) -> None:
    machine = {**environment(tmp_path), "WEIGHBRIDGE_LEASES": str(tmp_path / "leases"), "CUDA_VISIBLE_DEVICES": ""}
    with another_run(tmp_path / "one", machine, repository) as run:
        assert until(run, "works on") == "works on"
    with another_run(tmp_path / "two", machine, repository, "stages: {evaluate: {gpus: 2}}\n") as run:
        output, _ = run.communicate()
    assert run.returncode == 5
    assert "evaluate needs 2 GPUs, and this machine has none" in output
    assert "stages.evaluate" in output
