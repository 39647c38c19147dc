"""Measure the model on the evaluation suites and write the accuracy table into the README.

`python -m digits_vlm.report` measures and writes; `--check` measures and fails when the README says anything else.
Runs in process, greedily; the server gives the same answers, because both call the same engine.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digits_vlm.config import default_model_dir
from digits_vlm.engine import Engine
from digits_vlm.preprocess import Array, read_pixels

if TYPE_CHECKING:
    from collections.abc import Iterable

SUITES = ("image", "image_yesno", "text")
BEGIN = "<!-- accuracy: written by `python -m digits_vlm.report`, not by hand -->"
END = "<!-- end of accuracy -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of a suite; `image` is a path relative to the suite's file, or None."""

    id: str
    cluster: str
    kind: str
    prompt: str
    expected: str
    image: Path | None


@dataclass(frozen=True, slots=True)
class Score:
    """How many answers were right, of how many."""

    right: int
    total: int

    @property
    def accuracy(self) -> float:
        """Return the share of right answers, 0 for an empty suite."""
        return self.right / self.total if self.total else 0.0


def read_suite(path: Path) -> list[Sample]:
    """Read a suite's JSONL file."""
    samples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        image = values.pop("image", None)
        samples.append(Sample(**values, image=None if image is None else path.parent / image))
    return samples


def normalise(text: str) -> str:
    """Return `text` in lower case, with single spaces and without a full stop at its end."""
    return " ".join(text.lower().split()).rstrip(". ")


def measure(engine: Engine, samples: Iterable[Sample], *, blind: bool = False) -> dict[str, Score]:
    """Ask every sample once; return the score of each kind. With `blind` every image is blanked first."""
    right: dict[str, int] = {}
    total: dict[str, int] = {}
    for sample in samples:
        answer = engine.answer(sample.prompt, pixels=_pixels(engine, sample, blind=blind)).text
        total[sample.kind] = total.get(sample.kind, 0) + 1
        right[sample.kind] = right.get(sample.kind, 0) + (normalise(answer) == normalise(sample.expected))
    return {kind: Score(right[kind], total[kind]) for kind in total}


def _pixels(engine: Engine, sample: Sample, *, blind: bool) -> Array | None:
    if sample.image is None:
        return None
    size = engine.config.image_size
    if blind:
        return np.zeros((size, size), np.float32)
    return read_pixels(sample.image.read_bytes(), image_size=size)


def whole(scores: dict[str, Score]) -> Score:
    """Return the score over all kinds."""
    return Score(sum(score.right for score in scores.values()), sum(score.total for score in scores.values()))


def table(engine: Engine, evals: Path) -> str:
    """Measure every suite and return the README's table."""
    lines = ["| suite | kind | samples | right | accuracy |", "|---|---|---:|---:|---:|"]
    for name in SUITES:
        samples = read_suite(evals / f"{name}.jsonl")
        scores = measure(engine, samples)
        lines.append(_row(f"**{name}**", "all", whole(scores)))
        lines += [_row("", kind, scores[kind]) for kind in sorted(scores)]
        if any(sample.image for sample in samples):
            lines.append(_row(f"{name}, images blanked", "all", whole(measure(engine, samples, blind=True))))
    return "\n".join([*lines, "", f"Weights `{engine.identity.weights_digest}`."])


def _row(suite: str, kind: str, score: Score) -> str:
    return f"| {suite} | {kind} | {score.total} | {score.right} | {score.accuracy:.3f} |"


def insert(readme: str, written: str) -> str:
    """Return `readme` with `written` between its markers; raise `ValueError` when they are missing."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        message = f"the README needs the markers {BEGIN} and {END}"
        raise ValueError(message)
    return f"{before}{BEGIN}\n{written}\n{END}{after}"


def main(argv: list[str] | None = None) -> int:
    """Write or check the README's accuracy table; return 1 when a check finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m digits_vlm.report", description="Measure the model.")
    parser.add_argument("--model-dir", type=Path, default=default_model_dir())
    parser.add_argument("--check", action="store_true", help="compare with the README instead of writing it")
    options = parser.parse_args(argv)
    readme = options.model_dir / "README.md"
    old = readme.read_text(encoding="utf-8")
    written = table(Engine.load(options.model_dir), options.model_dir / "evals")
    print(written)
    new = insert(old, written)
    if not options.check:
        readme.write_text(new, encoding="utf-8")
        return 0
    if new != old:
        print("the README's accuracy table is out of date; run python -m digits_vlm.report", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
