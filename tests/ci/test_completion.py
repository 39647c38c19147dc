"""Completion: candidates from the very parser, nothing slow imported for them, and scripts that real shells accept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pipelines import CONFIG, Pipeline
from terminals import on_terminal

from ci.commands import COMMANDS
from ci.completion import candidates
from ci.config.load import load
from ci.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
SLOW = {"anyio", "asyncio", "dagger", "httpx", "opentelemetry", "pydantic", "rich", "yaml"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = Pipeline.at(tmp_path).root
    monkeypatch.chdir(root)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    return root


def words(*typed: str) -> list[str]:
    return [word for word, _ in candidates(typed)]


def test_commands_options_and_their_values(root: Path) -> None:
    assert words("") == [entry.name for entry in COMMANDS]
    assert words("--v") == ["--version"]
    assert words("pl") == ["plan"]
    assert "--shell-on-failure" in words("run", "--")
    assert "--extra" not in words("run", "--")
    assert words("graph", "--format", "m") == ["mermaid"]
    assert words("completion", "") == ["bash", "zsh", "fish"]
    assert words("run", "--engine", "") == ["pocket", "dagger"]
    assert words("history", "--site", "") == []
    assert words("run", "--", "-k") == words("nonsense", "") == []


def test_stages_and_runs_are_those_of_the_repository(root: Path) -> None:
    assert words("run", "--only", "") == words("why", "") == list(STAGES)
    path = root / "configs" / "pipeline.yaml"
    path.write_text(CONFIG + 'stages: {licences: {use: "x:Y"}}\n')
    assert words("why", "l") == []
    load(path, cache=root.parent / "cache")
    assert words("why", "l") == ["licences"]
    for name in ("20260101-000000-a", "20260102-000000-b"):
        (root / ".weighbridge" / "runs" / name).mkdir(parents=True)
    assert words("report", "2") == ["20260102-000000-b", "20260101-000000-a"]


def test_a_tab_imports_nothing_slow(root: Path) -> None:
    program = "import sys; from ci.cli import run; run(['complete', '--', 'run', '--only', '']); print(*sys.modules, file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    load(root / "configs" / "pipeline.yaml", cache=root.parent / "cache")
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[0].split("\t") == [next(iter(STAGES)), "stage"]
    assert {name.partition(".")[0] for name in done.stderr.split()} & SLOW == set()


@pytest.fixture
def path(tmp_path: Path) -> dict[str, str]:
    """Give an environment in which the program that the scripts call is found, as it is for a person."""
    program = tmp_path / "bin" / "weighbridge"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m ci "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "xterm"}


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here: its script was not tried")
    return found


def test_bash_completes_with_its_script(root: Path, path: dict[str, str]) -> None:
    words = "COMP_WORDS=(weighbridge graph --format m); COMP_CWORD=3"
    asked = f'eval "$(weighbridge completion bash)"; {words}; _weighbridge; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run([shell("bash"), "-c", asked], cwd=root, capture_output=True, text=True, check=False, env=path)
    assert done.stdout == "mermaid\n", done.stderr


def test_fish_completes_with_its_script(root: Path, path: dict[str, str]) -> None:
    asked = 'weighbridge completion fish | source; complete -C "weighbridge graph --format m"; complete -C "weighbridge run --only ev"'
    done = subprocess.run([shell("fish"), "--no-config", "-c", asked], cwd=root, capture_output=True, text=True, check=False, env=path)
    assert [line.split("\t") for line in done.stdout.splitlines()] == [["mermaid"], ["evaluate", "stage"]], done.stderr


def test_zsh_completes_with_its_script(path: dict[str, str]) -> None:
    """With keys on a terminal: zsh completes nowhere else."""
    with on_terminal(shell("zsh"), "-f", env=path) as terminal:
        terminal.type("autoload -U compinit && compinit -D; eval \"$(weighbridge completion zsh)\"; echo lo''aded\n")
        terminal.wait_for("loaded")
        # To the start of the line, to print it rather than to run it.
        terminal.type("weighbridge graph --format m\t\x01echo is''now: \n")
        terminal.wait_for("isnow: weighbridge graph --format mermaid")
        terminal.type("weighbridge run --only ev\t\x01echo is''now: \n")
        terminal.wait_for("isnow: weighbridge run --only evaluate")
