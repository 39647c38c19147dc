"""Which samples a page shows, and what was asked in them: wrong answers first, pictures embedded within limits.

The record holds answers, not questions: prompts and pictures come from the suites in the working tree, and only where these still expect
what the sample was scored against, so that an edited suite never puts another picture beside an answer.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci.report.evidence import read_lines

_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}
_WRONG, _EACH, _RIGHT = 40, 24, 8
_PICTURES, _PICTURE_BYTES = 60, 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A sample on the page."""

    id: str
    suite: str
    verdict: str
    """`wrong`, `unanswered` or `right`."""
    expected: str
    output: str
    seconds: float
    prompt: str = ""
    picture: str = ""
    """A data URI."""


@dataclass(frozen=True, slots=True)
class Browser:
    """The samples shown, and how many there are in all."""

    shown: tuple[Shown, ...]
    total: int
    wrong: int


def suite_files(root: Path, cache: Path) -> dict[str, Path]:
    """Return suite → file of its questions, as the configuration names them now; empty when there is no valid one."""
    from ci.config.load import load
    from ci.errors import WeighbridgeError
    from ci.paths import CONFIG

    try:
        config = load(root / CONFIG, name=CONFIG, cache=cache)
    except WeighbridgeError:
        return {}
    evals = root / config.subject.path / config.subject.evals
    return {suite.name: evals / suite.file for suite in config.evaluate.suites}


def browse(samples: Path, questions: Mapping[str, Path]) -> Browser:
    """Choose from samples.jsonl at most 40 wrong answers per suite, then right ones: at least 8, or up to 24 in all."""
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for sample in read_lines(samples):
        groups[str(sample.get("suite"))].append((_verdict(sample), sample))
    chosen: list[tuple[str, dict[str, Any]]] = []
    total = bad = 0
    for group in groups.values():
        wrong = [item for item in group if item[0] != "right"]
        right = [item for item in group if item[0] == "right"]
        total, bad = total + len(group), bad + len(wrong)
        chosen += wrong[:_WRONG] + right[: max(_RIGHT, _EACH - len(wrong))]
    chosen.sort(key=lambda item: item[0] == "right")
    asked = _asked(questions, {(str(sample.get("suite")), str(sample.get("id"))) for _, sample in chosen})
    shown, pictures = [], 0
    for verdict, sample in chosen:
        key = (str(sample.get("suite")), str(sample.get("id")))
        question = asked.get(key, {})
        if question.get("expected") != sample.get("expected"):
            question = {}
        picture = _picture(questions[key[0]], str(question["image"])) if question.get("image") and pictures < _PICTURES else ""
        pictures += bool(picture)
        shown.append(_shown(verdict, sample, question, picture))
    return Browser(tuple(shown), total, bad)


def _shown(verdict: str, sample: Mapping[str, Any], question: Mapping[str, Any], picture: str) -> Shown:
    return Shown(
        id=str(sample.get("id")),
        suite=str(sample.get("suite")),
        verdict=verdict,
        expected=_text(sample.get("expected", "")),
        output=str(sample.get("error_class") if verdict == "unanswered" else sample.get("output", "")),
        seconds=float(sample.get("latency_s") or 0),
        prompt=str(question.get("prompt", "")),
        picture=picture,
    )


def _text(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


def _verdict(sample: Mapping[str, Any]) -> str:
    return "unanswered" if sample.get("error_class") else "right" if (sample.get("score") or 0) >= 1 else "wrong"


def _asked(questions: Mapping[str, Path], wanted: set[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    suites = {suite for suite, _ in wanted} & set(questions)
    return {
        (suite, str(line.get("id"))): line
        for suite in suites
        for line in read_lines(questions[suite])
        if (suite, str(line.get("id"))) in wanted
    }


def _picture(suite: Path, name: str) -> str:
    """Return a picture as a data URI; empty for what is no picture, too large, or outside the suite's directory."""
    path = suite.parent / name
    kind = _KINDS.get(path.suffix.lower(), "")
    try:
        if not kind or not path.resolve().is_relative_to(suite.parent.resolve()) or path.stat().st_size > _PICTURE_BYTES:
            return ""
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError:
        return ""
