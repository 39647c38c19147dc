"""The command line as a shell sees it: codes, streams, what is imported, and how it ends by a signal."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pipelines import Pipeline, commits

from ci.cli import parser
from ci.commands import COMMANDS

SLOW = {"anyio", "asyncio", "dagger", "httpx", "opentelemetry", "pydantic", "rich", "yaml"}


def ci(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ci", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **environment},
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pipeline = Pipeline.at(tmp_path)
    next(commits(pipeline.root))
    return pipeline.root


def imported(root: Path, *arguments: str) -> set[str]:
    program = (
        f"import sys; from ci.cli import run; code = run({list(arguments)!r}); print('\\n', *sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("init", "--help"), ("version",)])
def test_what_asks_for_words_only_imports_nothing_slow(root: Path, arguments: tuple[str, ...]) -> None:
    assert imported(root, *arguments) & SLOW == set()


@pytest.mark.parametrize(
    "arguments", [("plan",), ("plan", "--json"), ("plan", "--draft"), ("graph",), ("stages",), ("validate",), ("why", "build")]
)
def test_the_second_time_plan_validate_and_why_import_nothing_slow(root: Path, arguments: tuple[str, ...]) -> None:
    assert ci(root, "validate").returncode == 0
    assert imported(root, *arguments) & SLOW == set()


@pytest.mark.parametrize("command", ["plan", "validate", "graph", "stages"])
def test_git_is_asked_once(root: Path, tmp_path: Path, command: str) -> None:
    assert ci(root, "validate").returncode == 0
    said = tmp_path / "git.log"
    shim = tmp_path / "bin" / "git"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\necho "$*" >> "{said}"\nexec "{shutil.which("git")}" "$@"\n')
    shim.chmod(0o755)
    assert ci(root, command, PATH=f"{shim.parent}:{os.environ['PATH']}").returncode == 0
    (asked,) = said.read_text().splitlines()
    assert " status " in asked


def test_git_is_not_left_behind_where_the_configuration_is_wrong(root: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    shim = tmp_path / "bin" / "git"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\necho $$ > "{pid}.part"\nmv "{pid}.part" "{pid}"\nexec sleep 600\n')
    shim.chmod(0o755)
    config = root / "configs" / "pipeline.yaml"
    config.write_text(config.read_text() + "tset: {}\n")
    assert ci(root, "plan", PATH=f"{shim.parent}:{os.environ['PATH']}").returncode == 2
    # It was killed before it began, or while it slept.
    assert not pid.exists() or not Path(f"/proc/{pid.read_text().strip()}").exists()


@pytest.mark.parametrize("words", [("run", "--nonsense"), ("plan", "--only"), ("run", "-h"), ("nonsense",)])
def test_the_parser_of_one_command_says_what_that_of_all_says(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for alone in (False, True):
        with pytest.raises(SystemExit) as stop:
            parser(words[0], alone=alone).parse_args(list(words))
        said.append((stop.value.code, capsys.readouterr()))
    assert said[0] == said[1]


def test_plan_shows_each_stage_and_json_holds_the_same(root: Path) -> None:
    shown = ci(root, "plan").stdout
    plan = json.loads(ci(root, "plan", "--json").stdout)
    assert [stage["name"] for stage in plan["stages"]] == [
        line.split()[0] for line in shown.splitlines()[2:] if not line.startswith("policy ")
    ]
    assert ci(root / "service", "plan", "--json").stdout == ci(root, "plan", "--json").stdout


def test_a_typo_in_the_configuration_is_2_and_nothing_is_run(root: Path) -> None:
    config = root / "configs" / "pipeline.yaml"
    config.write_text(config.read_text().replace("evaluate:", "evalute:"))
    done = ci(root, "run")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'configs/pipeline.yaml:3:1: unknown key "evalute" (did you mean "evaluate"?)\n1 error. Nothing was run.\n'
    assert not (root / ".weighbridge").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "required: COMMAND"),
        (("rnu",), "invalid choice"),
        (("run", "--onyl", "x"), "unrecognized arguments"),
        (("run", "--only", "tset"), 'did you mean "test"?'),
        (("why", "tset"), 'did you mean "test"?'),
        (("run", "--", "-k", "x"), "arguments after -- go to one stage"),
    ],
)
def test_a_wrong_command_line_is_2_with_what_was_meant(root: Path, arguments: tuple[str, ...], words: str) -> None:
    done = ci(root, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_knows_json_and_says_what_it_is() -> None:
    for entry in COMMANDS:
        command = argparse.ArgumentParser()
        entry.load().configure(command)
        assert "--json" in command.format_help(), entry.name
        assert entry.text


def test_outside_a_repository_it_says_what_is_looked_for(tmp_path: Path) -> None:
    done = ci(tmp_path, "run")
    assert done.returncode == 2
    assert "there is no configs/pipeline.yaml here" in done.stderr


def test_a_subject_that_does_not_exist_is_2(root: Path) -> None:
    (root / "service").rename(root / "elsewhere")
    done = ci(root, "validate")
    assert (done.returncode, done.stderr) == (2, "configs/pipeline.yaml: the subject's directory service does not exist\n")


def test_a_record_that_cannot_be_written_is_5_before_anything_runs(root: Path) -> None:
    (root / ".weighbridge").write_text("a file where the directory should be")
    done = ci(root, "run")
    assert done.returncode == 5
    assert "the record cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_schema_is_json(root: Path) -> None:
    assert json.loads(ci(root, "config", "schema").stdout)["additionalProperties"] is False


def test_a_reader_that_goes_away_is_no_error_of_ours(root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ci", "config", "schema"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), errors) == (141, b"")


PROGRAM = """
import os, sys
from pathlib import Path
import anyio
from pipelines import Done, Pipeline
from ci.engine import choose
from ci.report.plain import Plain
from ci.runner import execute

pipeline = Pipeline(Path(sys.argv[1]), Path(sys.argv[2]), engine=choose("pocket", "", {}))

async def forever(ctx, needs):
    print("at work", os.getpid(), flush=True)
    await anyio.sleep_forever()

pipeline.add("build", forever, engine=True)
pipeline.add("push", forever, needs=("build",))
sys.exit(execute(pipeline.request(), Plain(sys.stdout)).exit)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_in_order_and_leaves_no_process(number: signal.Signals, code: int, tmp_path: Path) -> None:
    pipeline = Pipeline.at(tmp_path)
    repository = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(pipeline.root), str(pipeline.cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{repository}:{repository / 'tests' / 'support'}"},
    )
    assert process.stdout is not None
    assert any(line.startswith("at work") for line in process.stdout)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.send_signal(number)
    output = process.stdout.read()
    process.stdout.close()
    assert process.wait() == code, output
    assert f"stopped: interrupted by signal {int(number)} (exit {code}). Cancelled: build. Not run: push." in output
    assert "Traceback" not in output
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []
    (run,) = (path for path in (pipeline.root / ".weighbridge" / "runs").iterdir() if not path.is_symlink())
    record = json.loads((run / "run.json").read_text())
    assert (record["exit"], record["status"]) == (code, "interrupted")
    assert [stage["status"] for stage in record["stages"]] == ["cancelled", "skipped"]
