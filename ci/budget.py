"""The time budget of a run: what it will probably take, from the durations of earlier runs, and what it took when it was too much.

Durations come from the records of this working tree. A forecast lays the stages out as the runner would: each when what it needs is done,
so many at once. Stages that never ran are counted as nothing, and named.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ci.paths import RUNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ci.record import StageEntry

_RUNS_READ = 20
_SAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How long it takes until all stages are done."""

    seconds: float
    stages: Mapping[str, float]
    """Stage → seconds that it will still work."""
    unknown: tuple[str, ...]
    """Stages of which nobody knows."""


@dataclass(slots=True, kw_only=True)
class Budget:
    """What a run may take, and what is expected of it; all in seconds."""

    minutes: float
    """0 when there is no budget."""
    expected: Mapping[str, float] = field(default_factory=dict)
    """Stage → how long it usually works."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Stage → how long it and all that waits for it take, one after another."""
    slots: int = 4

    @property
    def seconds(self) -> float:
        """The budget in seconds; infinite when there is none."""
        return self.minutes * 60 if self.minutes else float("inf")

    def forecast(self, entries: Iterable[StageEntry], needs: Mapping[str, Sequence[str]], now: float) -> Forecast:
        """Return how long what is not done yet will take from `now`, in seconds since the run started."""
        open_ = {entry.name: entry for entry in entries if entry.status in {"waiting", "running"}}
        left = {}
        for name, entry in open_.items():
            begun = now - entry.started if entry.status == "running" else 0.0
            left[name] = max(self.expected.get(name, 0.0) - begun, 0.0)
        unknown = tuple(name for name in open_ if name not in self.expected)
        return Forecast(seconds=makespan(left, needs, self.slots, self.weights), stages=left, unknown=unknown)

    def risk(self, forecast: Forecast, now: float) -> str:
        """Say that the budget is at risk, with the numbers, when it is."""
        if now + forecast.seconds <= self.seconds:
            return ""
        longest = sorted(forecast.stages.items(), key=lambda item: -item[1])
        parts = ", ".join(f"{name} {_span(seconds)}" for name, seconds in longest[:3] if seconds >= 1)
        used = f"{_span(now)} are gone and " if now >= 1 else ""
        least = " at least" if forecast.unknown else ""
        return f"the budget of {self.minutes:g} min is at risk: {used}{_span(forecast.seconds)} more are expected{least} ({parts})"


def durations(root: Path) -> dict[str, float]:
    """Return stage → the median of its last passes in seconds, from this working tree's records, newest first."""
    samples: dict[str, list[float]] = {}
    for run in _records(root):
        for entry in run.get("stages", ()):
            known = samples.setdefault(entry["name"], [])
            if entry["status"] == "passed" and len(known) < _SAMPLES:
                known.append(float(entry["seconds"]))
    return {name: _middle(known) for name, known in samples.items() if known}


def _middle(values: Sequence[float]) -> float:
    """Return the median, of two the smaller; the statistics module would cost more than all else that `plan` does."""
    return sorted(values)[(len(values) - 1) // 2]


def weights_of(expected: Mapping[str, float], needs: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Return stage → the length of the longest chain that starts with it, in seconds."""
    weights: dict[str, float] = {}

    def weigh(name: str) -> float:
        if name not in weights:
            after = [weigh(other) for other, wanted in needs.items() if name in wanted]
            weights[name] = expected.get(name, 0.0) + max(after, default=0.0)
        return weights[name]

    for name in needs:
        weigh(name)
    return weights


def makespan(left: Mapping[str, float], needs: Mapping[str, Sequence[str]], slots: int, weights: Mapping[str, float]) -> float:
    """Return how long stages take together: `left` is stage → seconds, what is not in it is done."""
    waiting, working, now = set(left), list[tuple[float, str]](), 0.0
    done: set[str] = set()
    while waiting or working:
        ready = [name for name in waiting if all(need in done or need not in left for need in needs.get(name, ()))]
        for name in sorted(ready, key=lambda name: -weights.get(name, 0.0))[: slots - len(working)]:
            waiting.discard(name)
            heapq.heappush(working, (now + left[name], name))
        if not working:  # what is left needs something that will never be done
            break
        now, name = heapq.heappop(working)
        done.add(name)
    return now


def spent(entries: Iterable[StageEntry], now: float) -> list[str]:
    """Return what took the time, one line per stage, the longest first; `now` is in seconds since the run started."""
    rows = []
    for entry in entries:
        took = entry.seconds or (now - entry.started if entry.status in {"running", "cancelled"} and entry.started else 0.0)
        if took or entry.waited:
            rows.append((took + entry.waited, entry, took))
    told = [_row(entry, took) for _, entry, took in sorted(rows, key=lambda row: -row[0])]
    return told or ["no stage had begun: the engine or the base image was not ready"]


def _row(entry: StageEntry, took: float) -> str:
    notes = ["still at work"] if entry.status in {"running", "cancelled"} else []
    count = len(entry.attempts)
    notes += [f"{count} failed attempt{'s' if count > 1 else ''} before it"] if count else []
    notes += [f"waited {_span(entry.waited)} ({entry.waited_for})"] if entry.waited >= 0.1 else []
    notes += [f"usually {_span(entry.expected)}"] if entry.expected else []
    return f"{entry.name:<12} {_span(took):>12}   {', '.join(notes)}".rstrip()


def _span(seconds: float) -> str:
    if seconds < 99.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{round(seconds) // 60} min {round(seconds) % 60:02d} s"


def _records(root: Path) -> Iterator[dict[str, Any]]:
    directories = sorted((path for path in (root / RUNS).glob("[0-9]*") if path.is_dir()), reverse=True)
    for directory in directories[:_RUNS_READ]:
        try:
            run = json.loads((directory / "run.json").read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(run, dict):
            yield run
