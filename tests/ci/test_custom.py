"""Stages of a repository's own: found by import path, placed by what they need and who waits for them, remembered like the others."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pipelines import CONFIG, Pipeline, commits

from ci.config.load import load
from ci.config.model import Config
from ci.custom import all_stages
from ci.errors import UsageError
from ci.stage import StageFailed
from ci.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
MODULE = '''
from dataclasses import dataclass

from ci.stage import InputSpec, StageFailed, StageResult


@dataclass(frozen=True, slots=True)
class Counted(StageResult):
    files: int


class Licences:
    """Every source file names its licence."""

    Result = Counted
    inputs = InputSpec(files=("service",), base=False)
    engine = False

    async def run(self, ctx, needs):
        files = sorted(ctx.subject.rglob("*.py"))
        for path in files:
            if "SPDX" not in path.read_text():
                raise StageFailed(f"{path.name} names no licence")
        return Counted(f"{len(files)} files", len(files))


class Late(Licences):
    needs = ("own_licences",)


class NoStage:
    pass
'''


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a repository with a module of its own; what is imported from it is forgotten after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    root = Pipeline.at(tmp_path).root
    (root / "own_checks").mkdir()
    (root / "own_checks" / "licences.py").write_text(MODULE)
    before = set(sys.modules)
    yield root
    for name in set(sys.modules) - before:
        if name.startswith("own_checks"):
            del sys.modules[name]


def config(root: Path, stages: str) -> Config:
    path = root / "configs" / "pipeline.yaml"
    path.write_text(CONFIG + f"stages: {stages}\n")
    return load(path)


def test_without_one_there_are_the_standard_stages(root: Path) -> None:
    assert all_stages(config(root, "{test: {timeout: 5}}"), root) is STAGES


def test_it_comes_after_what_it_needs_and_before_who_waits_for_it(root: Path) -> None:
    stages = all_stages(
        config(root, '{late: {use: "own_checks.licences:Late"}, own_licences: {use: "own_checks.licences:Licences", before: [package]}}'),
        root,
    )
    names = list(stages)
    assert [name for name in names if name in STAGES] == list(STAGES)
    assert names.index("own_licences") < names.index("package")
    assert names[-1] == "late"
    assert stages["package"].needs == (*STAGES["package"].needs, "own_licences")
    assert "own_licences" not in STAGES["package"].needs


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ('{x: {use: "nothing"}}', "is not module:Class"),
        ('{x: {use: "ci.stages.build:Result"}}', "is a module of weighbridge"),
        ('{x: {use: "own_nothing:X"}}', "No module named 'own_nothing'"),
        ('{x: {use: "own_checks.licences:X"}}', "has no attribute 'X'"),
        ('{x: {use: "own_checks.licences:NoStage"}}', "has no method run"),
        ('{build: {use: "own_checks.licences:Licences"}}', "is a standard stage"),
        ('{x: {use: "own_checks.licences:Licences", before: [pusch]}}', 'there is no stage "pusch"'),
        ('{x: {use: "own_checks.licences:Late"}}', 'there is no stage "own_licences"'),
        (
            '{late: {use: "own_checks.licences:Late", before: [own_licences]}, own_licences: {use: "own_checks.licences:Licences"}}',
            "in a circle",
        ),
    ],
)
def test_what_is_no_stage_is_named_with_its_place(stages: str, words: str, root: Path) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        all_stages(config(root, stages), root)
    assert caught.value.where.startswith("stages")


def run(root: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WEIGHBRIDGE_CACHE": str(root.parent / "cache")}
    command = [sys.executable, "-P", "-m", "ci", "run", "--only", "own_licences", "--json", *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    (stage,) = (entry for entry in json.loads(done.stdout)["stages"] if entry["name"] == "own_licences")
    return done.returncode, stage


def test_it_runs_fails_and_is_reused_like_the_others(root: Path) -> None:
    config(root, '{own_licences: {use: "own_checks.licences:Licences"}}')
    next(commits(root))
    code, stage = run(root)
    assert (code, stage["failure"]["message"]) == (1, "main.py names no licence")
    (root / "service" / "main.py").write_text("# SPDX-License-Identifier: MIT\n")
    code, stage = run(root)
    assert (code, stage["status"], stage["result"]) == (0, "passed", {"summary": "1 files", "files": 1})
    assert run(root)[1]["status"] == "reused"
    module = root / "own_checks" / "licences.py"
    module.write_text(MODULE.replace("SPDX", "SPDX-License"))
    assert run(root)[1]["status"] == "passed"


async def test_the_example_of_the_reference_is_one(root: Path) -> None:
    text = (ROOT / "docs" / "reference.md").read_text().split("## Stages of your own")[1]
    (root / "own_checks" / "example.py").write_text(text.split("```python\n")[1].split("```")[0])
    stages = all_stages(config(root, '{licences: {use: "own_checks.example:Licences", before: [push]}}'), root)
    example = stages["licences"].load()
    (root / "src").mkdir()
    (root / "src" / "a.py").write_text("# SPDX-License-Identifier: MIT\n")
    context = SimpleNamespace(subject=root)
    assert (await example.run(context, {})).summary == "every file names its licence"  # type: ignore[arg-type]
    (root / "src" / "b.py").write_text("")
    with pytest.raises(StageFailed, match=r"b\.py names no licence"):
        await example.run(context, {})  # type: ignore[arg-type]
