from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pipelines import Pipeline, passing, stage

from ci.files import Digests
from ci.inputs import Code, Inputs, differences, inputs_of
from ci.stages import STAGES

INPUTS = Inputs(
    files={"a.py": "1", "b.py": "2"},
    config={"build": {"port": 8000, "entrypoint": ["python"]}, "suites": [{"floor": 0.9}]},
    needs={"build": "3"},
    facts={"commit": "4"},
    code="5",
    engine="pocket 6",
    base="sha256:7",
    python="cpython 3.11.7 glibc 2.36",
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"files": {"a.py": "x", "c.py": "2"}}, ["a.py changed", "b.py is gone", "c.py is new"]),
        (
            {"config": {**INPUTS.config, "build": {"port": 1, "entrypoint": ["python"]}}},
            ["build.port in the configuration changed (8000 → 1)"],
        ),
        ({"config": {**INPUTS.config, "suites": [{"floor": 0.8}]}}, ["suites[0].floor in the configuration changed (0.9 → 0.8)"]),
        ({"needs": {"build": "x"}}, ["build's result changed"]),
        ({"facts": {"commit": "x"}}, ["commit changed"]),
        ({"base": "sha256:x"}, ["the base image changed (sha256:7 → sha256:x)"]),
        ({"engine": "pocket x"}, ["the engine changed (pocket 6 → pocket x)"]),
        ({"python": "cpython 3.12"}, ["Python changed (cpython 3.11.7 glibc 2.36 → cpython 3.12)"]),
        ({"code": "x"}, ["the pipeline's own code changed"]),
        ({"weighbridge": "9"}, ["the pipeline's own code changed"]),
    ],
)
def test_every_component_is_in_the_key_and_its_change_has_a_name(changes: dict[str, Any], expected: list[str]) -> None:
    after = replace(INPUTS, **changes)
    assert (after.key() == INPUTS.key()) == (not expected)
    assert differences(INPUTS, after) == expected


def _inputs(pipeline: Pipeline, name: str, **changes: Any) -> Inputs:
    arguments: dict[str, Any] = {
        "config": pipeline.config,
        "facts": pipeline.facts,
        "digests": Digests(pipeline.root, None),
        "code": Code(None, pipeline.stages),
        "needs": {},
        "engine": "pocket",
        "base": "sha256:base",
    }
    return inputs_of(pipeline.stages[name], **{**arguments, **changes})


def test_a_stage_depends_on_what_it_declares_and_on_nothing_else(tmp_path: Path) -> None:
    pipeline = Pipeline.at(tmp_path)
    pipeline.add("build", passing(), files=("service",), config=("build.port",))
    before = _inputs(pipeline, "build")
    (pipeline.root / "README.md").write_text("a doc\n")
    config = pipeline.config
    other = replace(config, build=replace(config.build, entrypoint=("x",)))
    assert _inputs(pipeline, "build", config=other, engine="another", base="another").key() == before.key()
    assert _inputs(pipeline, "build", config=replace(config, build=replace(config.build, port=1))).key() != before.key()


def test_engine_and_base_count_for_stages_that_use_them(tmp_path: Path) -> None:
    pipeline = Pipeline.at(tmp_path)
    pipeline.add("build", passing(), engine=True, base=True)
    before = _inputs(pipeline, "build")
    assert _inputs(pipeline, "build", engine="another").key() != before.key()
    assert _inputs(pipeline, "build", base="another").key() != before.key()


def test_a_stages_code_counts_for_it_and_not_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ci"
    for name in ("stages/__init__.py", "stages/build.py", "stages/test.py", "stages/common.py", "stage.py", "cli.py", "report/live.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    monkeypatch.setattr("ci.inputs.__file__", str(package / "inputs.py"))
    build, test = STAGES["build"], STAGES["test"]

    def after(edited: str) -> tuple[bool, bool]:
        before = [Code(None, STAGES).of(stage) for stage in (build, test)]
        (package / edited).write_text(f"{edited} edited")
        return tuple(code != Code(None, STAGES).of(stage) for code, stage in zip(before, (build, test), strict=True))  # type: ignore[return-value]

    assert after("stages/build.py") == (True, False)
    assert after("stages/common.py") == (True, True)
    assert after("stage.py") == (True, True)
    assert after("cli.py") == after("report/live.py") == after("stages/__init__.py") == (False, False)


def test_the_embedded_engines_code_is_its_identity() -> None:
    code = Code(None, STAGES)
    assert code.engine().startswith("pocket ")
    assert code.engine() == Code(None, {"build": stage("build", passing())}).engine()
