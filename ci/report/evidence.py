"""What a run's directory proves: run.json, the tests' JUnit and coverage reports, the gate's verdicts, the samples.

Files that are missing or broken are absent from a report, never an error: a run that failed early has few of them.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_Z = 1.959964  # the normal quantile of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Case:
    """One test."""

    name: str
    place: str
    outcome: str
    """`failed`, `skipped` or `passed`."""
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Covered:
    """The line coverage of one file."""

    file: str
    covered: int
    lines: int
    missing: str
    """Line numbers, as ranges."""


def read_run(directory: Path) -> dict[str, Any]:
    """Return run.json; ValueError when it is not a record."""
    run = json.loads((directory / "run.json").read_bytes())
    if not isinstance(run, dict) or run.get("schema") != 1:
        raise ValueError(f"{directory.name}: run.json is not a record that this version reads")
    return run


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty when there is none."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Give the objects of a JSON Lines file, without lines that are none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict):
            yield data


def read_cases(path: Path) -> list[Case]:
    """Return the tests of a JUnit report: failed ones first, then skipped, then the slowest."""
    root = _xml(path)
    cases = [_case(element) for element in root.iter("testcase")] if root is not None else []
    order = {"failed": 0, "skipped": 1, "passed": 2}
    return sorted(cases, key=lambda case: (order[case.outcome], -case.seconds, case.name))


def _case(element: ET.Element) -> Case:
    outcome, message = "passed", ""
    for kind, name in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        problem = element.find(kind)
        if problem is not None:
            outcome, message = name, problem.get("message") or (problem.text or "").strip()
            break
    file, line = element.get("file", ""), element.get("line", "")
    place = f"{file}:{int(line) + 1}" if file and line.isdigit() else file or element.get("classname", "")
    return Case(element.get("name", ""), place, outcome, _number(element.get("time")), message)


def read_coverage(path: Path) -> list[Covered]:
    """Return the files of a Cobertura report, the least covered first."""
    root = _xml(path)
    if root is None:
        return []
    found = []
    for element in root.iter("class"):
        hits = {int(line.get("number") or 0): line.get("hits") != "0" for line in element.iter("line")}
        missing = _ranges(sorted(number for number, hit in hits.items() if not hit))
        found.append(Covered(element.get("filename", ""), sum(hits.values()), len(hits), missing))
    return sorted(found, key=lambda item: (item.covered / item.lines if item.lines else 1.0, item.file))


def _ranges(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}–{last}" for first, last in runs)


def _xml(path: Path) -> ET.Element | None:
    try:
        # expat refuses entity bombs by itself since 2.4.1, and reads no external entity.
        return ET.parse(path).getroot()  # noqa: S314
    except (OSError, ET.ParseError):
        return None


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def suites(directory: Path, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the gate's verdicts per suite; of a record without them, what the stage `evaluate` kept."""
    judged = read_json(directory / "gate.json").get("suites")
    if isinstance(judged, list):
        return [suite for suite in judged if isinstance(suite, dict)]
    kept = (stage(run, "evaluate").get("result") or {}).get("suites") or []
    return [{**suite, "planned": suite.get("samples", 0)} for suite in kept]


def stage(run: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a stage of the record; empty when it has none of that name."""
    return next((entry for entry in run.get("stages", ()) if entry["name"] == name), {})


def wilson(score: float, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share of `count` samples taken as independent (Wilson 1927)."""
    if count <= 0:
        return 0.0, 1.0
    square = _Z * _Z
    centre = (score + square / (2 * count)) / (1 + square / count)
    half = _Z / (1 + square / count) * math.sqrt(max(0.0, score * (1 - score)) / count + square / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)
