"""What many runs say together: scores per suite over time, durations per stage, and how often the same commit gave different outcomes.

Flakes are counted on clean trees alone: a commit whose runs passed and failed the same test, or the same stage, without a change. Runs that
were interrupted or stopped by infrastructure say nothing about either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from ci.report import evidence

_VERDICTS = {"passed", "failed"}


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a trend."""

    run: str
    when: str
    value: float


@dataclass(frozen=True, slots=True)
class Trend:
    """A value over runs, the oldest first."""

    name: str
    points: tuple[Point, ...]
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Flake:
    """Something that gave different outcomes for the same commit."""

    name: str
    commits: int
    """Commits with more than one outcome."""
    judged: int
    """Commits that were judged more than once."""
    last: str
    """The last run in which it failed."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long a stage worked, in seconds, over the runs in which it did."""

    name: str
    count: int
    median: float
    p90: float
    last: float


def scores(runs: Sequence[Mapping[str, Any]]) -> list[Trend]:
    """Return a trend per suite and variant; a variant is the part in brackets of an evaluating stage's name. Reused verdicts count once."""
    found: dict[str, list[Point]] = defaultdict(list)
    floors: dict[str, float] = {}
    for run in runs:
        for entry in run["stages"]:
            if entry["status"] != "passed" and not entry.get("failure"):
                continue
            for suite in (entry.get("result") or {}).get("suites") or ():
                variant = entry["name"].partition("[")[2].rstrip("]")
                name = f"{suite['name']} [{variant}]" if variant else str(suite["name"])
                found[name].append(Point(run["id"], run["started"], float(suite["score"])))
                floors[name] = float(suite.get("floor", 0))
    return [Trend(name, tuple(points), floors[name]) for name, points in sorted(found.items())]


def durations(runs: Sequence[Mapping[str, Any]]) -> Trend:
    """Return how long runs took that passed and did some work, in seconds."""
    worked = [run for run in runs if run["status"] == "passed" and any(entry["seconds"] for entry in run["stages"])]
    return Trend("duration of runs", tuple(Point(run["id"], run["started"], float(run["seconds"])) for run in worked))


def times(runs: Sequence[Mapping[str, Any]]) -> list[Times]:
    """Return how long each stage worked, the slowest first."""
    found: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for entry in run["stages"]:
            if entry["status"] == "passed" and entry["seconds"]:
                found[entry["name"]].append(float(entry["seconds"]))
    made = [Times(name, len(values), _quantile(values, 50), _quantile(values, 90), values[-1]) for name, values in found.items()]
    return sorted(made, key=lambda each: -each.median)


def flakes(runs: Sequence[Mapping[str, Any]], root: Path) -> list[Flake]:
    """Return what gave different outcomes for the same commit, the worst first; `root` is the directory of the runs."""
    outcomes: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    judged: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    last: dict[str, str] = {}
    for run in runs:
        commit = str(run["facts"].get("commit") or "")
        if not commit or run["facts"].get("dirty"):
            continue
        for name, outcome in _judgements(run, root / run["id"]):
            outcomes[name][commit].add(outcome)
            judged[name][commit] += 1
            if outcome == "failed":
                last[name] = run["id"]
    made = [
        Flake(name, sum(len(seen) > 1 for seen in commits.values()), sum(count > 1 for count in judged[name].values()), last.get(name, ""))
        for name, commits in outcomes.items()
    ]
    return sorted((flake for flake in made if flake.commits), key=lambda flake: (-flake.commits / flake.judged, flake.name))


def flake_rate(runs: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many commits were judged more than once, and how many of them both passed and failed."""
    seen: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        commit = str(run["facts"].get("commit") or "")
        if commit and not run["facts"].get("dirty") and run["status"] in _VERDICTS:
            seen[commit].append(run["status"])
    again = [outcomes for outcomes in seen.values() if len(outcomes) > 1]
    return len(again), sum(len(set(outcomes)) > 1 for outcomes in again)


def _judgements(run: Mapping[str, Any], directory: Path) -> Iterable[tuple[str, str]]:
    """Give what a run judged itself: its stages, and the tests of a stage that ran."""
    ran = {entry["name"]: entry["status"] for entry in run["stages"] if _is_verdict(entry)}
    yield from ((f"stage {name}", status) for name, status in ran.items())
    if "test" in ran:
        for case in evidence.read_cases(directory / "junit.xml"):
            if case.outcome in _VERDICTS:
                yield f"{case.place.partition(':')[0]}::{case.name}", case.outcome


def _is_verdict(entry: Mapping[str, Any]) -> bool:
    """Tell whether a stage passed or failed by its subject's own doing: infrastructure (exit 5) and time (exit 6) are none."""
    if entry["status"] == "failed":
        return (entry.get("failure") or {}).get("exit") in {1, 3}
    return bool(entry["status"] == "passed")


def _quantile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]
