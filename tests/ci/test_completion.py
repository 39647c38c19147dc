"""Completion: candidates from the very parser, nothing slow imported for them, and scripts that real shells accept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pipelines import CONFIG, Pipeline

from ci.commands import COMMANDS
from ci.completion import SCRIPTS, candidates
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


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes_with_it(shell: str, root: Path, tmp_path: Path) -> None:
    """The program that the script calls is found on PATH, as it is for a person."""
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell} here: its script was not tried")
    program = tmp_path / "bin" / "weighbridge"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m ci "$@"\n')
    program.chmod(0o755)
    asked = {
        "bash": 'eval "$(weighbridge completion bash)"; COMP_WORDS=(weighbridge graph --format m); COMP_CWORD=3; '
        '_weighbridge; echo "${COMPREPLY[@]}"',
        "zsh": 'autoload -U compinit && compinit -D; eval "$(weighbridge completion zsh)"; whence -w _weighbridge; echo mermaid',
        "fish": 'weighbridge completion fish | source; complete -C "weighbridge graph --format m"',
    }[shell]
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run([found, "-c", asked], cwd=root, capture_output=True, text=True, check=False, env=environment)
    assert "mermaid" in done.stdout, done.stderr
