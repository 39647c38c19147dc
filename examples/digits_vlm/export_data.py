"""Export the UCI handwritten digits once: training sheet to `data/`, held-out scans and suites to `evals/`.

Needs scikit-learn, which ships the scans. Running it again writes the same bytes (same scikit-learn, same Pillow).
The split is random over scans, stratified by digit, with a fixed seed; the same writers occur on both sides.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

from training.questions import Question, image_questions, number_pairs, pair_questions, yes_no_questions
from training.scans import SPLIT_SEED, write_sheet

HELD_OUT = 400
INK = 16
ROOT = Path(__file__).resolve().parent
# Questions a suite asks of each kind. A model that sees nothing must not score by guessing, so the suite `image`
# has no yes-or-no question.
IMAGE_MIX = {"name": 240, "caption": 80, "add": 80, "count": 80}
TEXT_PER_KIND = 2
YES_NO_MIX = {"larger": 150, "smaller": 150, "parity": 100}


def split(labels: np.ndarray[Any, Any]) -> tuple[list[int], list[int]]:
    """Return the indices of the training scans and of the held-out scans, stratified by digit."""
    generator = random.Random(SPLIT_SEED)
    held_out: list[int] = []
    for digit in range(10):
        members = [int(index) for index in np.flatnonzero(labels == digit)]
        held_out += generator.sample(members, HELD_OUT // 10)
    chosen = set(held_out)
    return [index for index in range(len(labels)) if index not in chosen], sorted(held_out)


def image_suite(scans: dict[str, int], mix: dict[str, int], suite: str) -> list[dict[str, Any]]:
    """Return samples about held-out scans (`id` → digit): kinds as in `mix`, every scan about equally often."""
    generator = random.Random(f"{SPLIT_SEED} {suite}")
    order = sorted(scans)
    generator.shuffle(order)
    kinds = [kind for kind, count in mix.items() for _ in range(count)]
    generator.shuffle(kinds)
    samples = []
    for index, kind in enumerate(kinds):
        scan = order[index % len(order)]
        ask = yes_no_questions if suite == "image_yesno" else image_questions
        choices = [question for question in ask(scans[scan]) if question.kind == kind]
        if suite == "image_yesno":
            # Alternate the wanted answer where the digit allows both, so that neither word wins by itself.
            wanted = ("yes", "no")[index % 2]
            choices = [question for question in choices if question.answer == wanted] or choices
        samples.append(_sample(suite, index, scan, generator.choice(choices), image=f"images/{scan}.png"))
    return samples


def text_suite(pairs: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return `TEXT_PER_KIND` samples of each kind for each held-out pair."""
    generator = random.Random(f"{SPLIT_SEED} text")
    samples: list[dict[str, Any]] = []
    for low, high in pairs:
        questions = list(pair_questions(low, high))
        for kind in dict.fromkeys(question.kind for question in questions):
            choices = [question for question in questions if question.kind == kind]
            for chosen in generator.sample(choices, TEXT_PER_KIND):
                samples.append(_sample("text", len(samples), f"pair-{low:02}-{high:02}", chosen))
    return samples


def _sample(suite: str, index: int, cluster: str, question: Question, *, image: str | None = None) -> dict[str, Any]:
    sample: dict[str, Any] = {"id": f"{suite}-{index:04}", "cluster": cluster, "kind": question.kind}
    sample["prompt"] = question.prompt
    if image is not None:
        sample["image"] = image
    return sample | {"expected": question.answer}


def main() -> None:
    """Write everything."""
    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / INK)).astype(np.uint8)
    labels = bunch.target
    names = [f"scan-{index:04}" for index in range(len(labels))]
    train, held_out = split(labels)
    write_sheet(ROOT / "data", [names[index] for index in train], pixels[train], labels[train])
    images = ROOT / "evals" / "images"
    images.mkdir(parents=True, exist_ok=True)
    for index in held_out:
        Image.fromarray(pixels[index]).save(images / f"{names[index]}.png", optimize=True)
    scans = {names[index]: int(labels[index]) for index in held_out}
    suites = {
        "image": image_suite(scans, IMAGE_MIX, "image"),
        "image_yesno": image_suite(scans, YES_NO_MIX, "image_yesno"),
        "text": text_suite(number_pairs(SPLIT_SEED)[1]),
    }
    for name, samples in suites.items():
        lines = "".join(json.dumps(sample) + "\n" for sample in samples)
        (ROOT / "evals" / f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
