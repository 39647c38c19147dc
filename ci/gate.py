"""Judges samples against each suite's floor: the verdict is pass, block or infra.

The unit of evidence is the sample. The share of right answers is taken over all planned samples, so a sample that was lost can never make a
score look better; and a score that only lost samples push below its floor is an infrastructure verdict, never a block. What is compared is
the score on exactly these samples: no claim about other data is made here.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Verdict = Literal["pass", "block", "infra"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One scored answer."""

    id: str
    suite: str
    score: float
    cluster: str = ""
    epoch: int = 1
    output: str = ""
    expected: Any = ""
    finish_reason: str = ""
    latency_s: float = 0.0
    error_class: str = ""
    """Why there is no answer; empty when there is one. Only causes outside the service's answer itself are errors."""
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteVerdict:
    """What one suite came to."""

    name: str
    verdict: Verdict
    score: float
    """Share of right answers over all planned samples, 0 … 1."""
    floor: float
    planned: int
    completed: int
    errors: Mapping[str, int] = field(default_factory=dict)
    """Error class → samples without an answer."""
    truncated: int = 0
    """Answers that ended at the longest length."""
    p50_s: float = 0.0
    """Median latency of answered samples, in seconds."""
    reason: str = ""
    wrong: tuple[str, ...] = ()
    """Ids of the first wrong answers."""

    def line(self) -> str:
        """Say it in one line."""
        return f"{self.name} {self.score:.3f} (floor {self.floor:g}, {self.completed}/{self.planned} answered)"


def read_samples(path: Path) -> list[Sample]:
    """Read samples.jsonl; ValueError names the line that is not a sample."""
    known = set(Sample.__dataclass_fields__)
    samples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            data = json.loads(line)
            samples.append(Sample(**{key: value for key, value in data.items() if key in known}))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name}:{number}: not a sample: {error}") from error
    return samples


def judge_suite(name: str, samples: Sequence[Sample], *, floor: float, planned: int, error_budget: float) -> SuiteVerdict:
    """Judge one suite; `planned` is how many samples should have come back, `error_budget` the share that may lack an answer."""
    answered = [sample for sample in samples if not sample.error_class]
    errors = Counter(sample.error_class for sample in samples if sample.error_class)
    if planned > len(samples):
        errors["missing"] += planned - len(samples)
    lost = sum(errors.values())
    right = sum(sample.score for sample in answered)
    score = right / planned if planned else 0.0
    verdict: Verdict = "pass"
    reason = ""
    if planned == 0 or len(samples) > planned:
        verdict, reason = "infra", f"{len(samples)} samples came back where {planned} were planned"
    elif lost > error_budget * planned:
        verdict, reason = "infra", f"{lost} of {planned} samples got no answer ({_classes(errors)}); at most {error_budget:.1%} may"
    elif score < floor and right + lost >= floor * planned:
        verdict, reason = "infra", f"below the floor only because {lost} samples got no answer ({_classes(errors)})"
    elif score < floor:
        verdict, reason = "block", f"{score:.3f} is below the floor {floor:g}"
    latencies = sorted(sample.latency_s for sample in answered)
    return SuiteVerdict(
        name=name,
        verdict=verdict,
        score=score,
        floor=floor,
        planned=planned,
        completed=len(answered),
        errors=dict(sorted(errors.items())),
        truncated=sum(sample.finish_reason == "length" for sample in answered),
        p50_s=latencies[len(latencies) // 2] if latencies else 0.0,
        reason=reason,
        wrong=tuple(sample.id for sample in answered if sample.score < 1)[:10],
    )


def overall(verdicts: Iterable[SuiteVerdict]) -> Verdict:
    """Combine suites: a proven block stands whatever else failed, then infra, then pass."""
    kinds = {verdict.verdict for verdict in verdicts}
    return "block" if "block" in kinds else "infra" if "infra" in kinds else "pass"


def _classes(errors: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(errors.items()))
