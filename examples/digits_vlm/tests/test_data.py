"""The committed suites: they keep their format and never meet the training scans. Skipped where they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from digits_vlm.report import SUITES, Sample, read_suite

ROOT = Path(__file__).resolve().parents[1]
EVALS = ROOT / "evals"
MOST = 500

pytestmark = pytest.mark.skipif(not EVALS.is_dir(), reason="the evaluation suites are not here")


@pytest.fixture(params=SUITES)
def suite(request: pytest.FixtureRequest) -> list[Sample]:
    return read_suite(EVALS / f"{request.param}.jsonl")


def test_ids_are_unique_and_images_exist(suite: list[Sample]) -> None:
    assert 0 < len(suite) <= MOST
    assert len({sample.id for sample in suite}) == len(suite)
    assert all(sample.image is None or sample.image.is_file() for sample in suite)


def test_one_cluster_is_one_image(suite: list[Sample]) -> None:
    images: dict[str, set[Path | None]] = {}
    for sample in suite:
        images.setdefault(sample.cluster, set()).add(sample.image)
    assert all(len(found) == 1 for found in images.values())


def test_no_constant_answer_gets_more_than_a_fifth_of_the_image_suite() -> None:
    answers = [sample.expected for sample in read_suite(EVALS / "image.jsonl")]
    assert max(answers.count(answer) for answer in set(answers)) <= 0.2 * len(answers)


def test_yes_and_no_are_nearly_balanced() -> None:
    answers = [sample.expected for sample in read_suite(EVALS / "image_yesno.jsonl")]
    assert set(answers) == {"yes", "no"}
    assert 0.45 < answers.count("yes") / len(answers) < 0.55


def test_no_evaluation_scan_is_in_the_training_split() -> None:
    labels = ROOT / "data" / "train.jsonl"
    if not labels.is_file():
        pytest.skip("the training split is not here")
    trained = {json.loads(line)["id"] for line in labels.read_text(encoding="utf-8").splitlines()}
    held_out = {path.stem for path in (EVALS / "images").glob("*.png")}
    assert len(held_out) == 400
    assert not trained & held_out
