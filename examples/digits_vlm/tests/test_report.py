from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from digits_vlm import report
from digits_vlm.report import BEGIN, END, Score

if TYPE_CHECKING:
    from pathlib import Path

    from digits_vlm.engine import Engine


@pytest.fixture
def repository(model_dir: Path, png: bytes, engine: Engine) -> Path:
    """Return a model directory with suites that the tiny model answers half right, and a README to fill."""
    evals = model_dir / "evals"
    evals.mkdir()
    (evals / "scan.png").write_bytes(png)
    (model_dir / "README.md").write_text(f"# Top\n{BEGIN}\nold\n{END}\nbottom\n", encoding="utf-8")
    right = engine.answer("count").text
    for suite in report.SUITES:
        sample = {"id": "a", "cluster": "c", "kind": "k", "prompt": "count", "expected": f" {right.upper()}. "}
        samples = [sample, sample | {"id": "b", "expected": "something else"}]
        if suite == "image":
            samples = [entry | {"image": "scan.png"} for entry in samples]
        text = "".join(json.dumps(entry) + "\n" for entry in samples)
        (evals / f"{suite}.jsonl").write_text(text, encoding="utf-8")
    return model_dir


def test_scores_are_counted_by_kind(repository: Path, engine: Engine) -> None:
    scores = report.measure(engine, report.read_suite(repository / "evals" / "text.jsonl"))
    assert scores == {"k": Score(1, 2)}
    assert report.whole(scores).accuracy == 0.5
    assert report.whole({}).accuracy == 0


def test_the_table_goes_between_the_markers_and_stays_when_nothing_changed(repository: Path) -> None:
    readme = repository / "README.md"
    assert report.main(["--model-dir", str(repository)]) == 0
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"# Top\n{BEGIN}\n| suite |")
    assert text.endswith(f"{END}\nbottom\n")
    assert "| **text** | all | 2 | 1 | 0.500 |" in text
    assert "image, images blanked" in text
    assert report.main(["--model-dir", str(repository), "--check"]) == 0
    readme.write_text(text.replace("0.500", "0.900"), encoding="utf-8")
    assert report.main(["--model-dir", str(repository), "--check"]) == 1


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        report.insert("# Top\n", "table")


@pytest.mark.parametrize("text", ["Two  three.", " two three", "TWO THREE\n"])
def test_case_space_and_the_final_stop_do_not_count(text: str) -> None:
    assert report.normalise(text) == "two three"
