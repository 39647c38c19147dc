"""The runs of a repository, from their records: which there are, and a table of the last ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ci.errors import UsageError
from ci.paths import RUNS
from ci.report import words
from ci.report.evidence import read_run, stage


def find_run(root: Path, name: str) -> Path:
    """Return the directory of a run; without a name, of the latest. UsageError when there is none."""
    if name in {".", ".."} or "/" in name:
        raise UsageError(f"{name} is not the name of a run", hint=f"runs are the directories of {RUNS}")
    directory = root / RUNS / (name or "latest")
    if not (directory / "run.json").is_file():
        raise UsageError(f"there is no run {name}" if name else "there is no run yet", where=RUNS, hint="history lists the runs")
    return directory.resolve()


def last_runs(root: Path, count: int) -> list[dict[str, Any]]:
    """Return the records of the last `count` runs, the newest first; what cannot be read is left out."""
    runs: list[dict[str, Any]] = []
    found = (root / RUNS).iterdir() if (root / RUNS).is_dir() else iter(())
    for directory in sorted((path for path in found if not path.is_symlink()), key=_moment, reverse=True):
        if len(runs) == count:
            break
        try:
            runs.append(read_run(directory))
        except (OSError, ValueError):
            continue
    return runs


def _moment(directory: Path) -> tuple[str, str, int]:
    """Order runs of one second by their number: `…-4f1c2ab`, `…-4f1c2ab-2`."""
    day, clock, *rest = [*directory.name.split("-"), ""]
    return day, clock, int(rest[1]) if len(rest) > 2 and rest[1].isdigit() else 1


def table(runs: list[dict[str, Any]]) -> list[str]:
    """Return the runs as lines: status, time, how many stages worked, scores."""
    if not runs:
        return ["no runs yet"]
    width = max(len(run["id"]) for run in runs)
    lines = [f"{'run':<{width}}  {'status':<12} {'took':>12}  {'ran':>3} {'reused':>6}  scores"]
    for run in runs:
        ran = sum(entry["status"] in {"passed", "failed"} for entry in run["stages"])
        reused = sum(entry["status"] == "reused" for entry in run["stages"])
        suites = (stage(run, "evaluate").get("result") or {}).get("suites") or []
        scores = " · ".join(f"{suite['name']} {suite['score']:.3f}" for suite in suites)
        took = words.seconds(run["seconds"])
        lines.append(f"{run['id']:<{width}}  {run['status']:<12} {took:>12}  {ran:>3} {reused:>6}  {scores}".rstrip())
    return lines
