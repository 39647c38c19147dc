"""A run as Markdown, for a step summary: what happened, scores against floors, and each failure with what to do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ci.report import words
from ci.report.evidence import suites, wilson

_TAIL_LINES = 60
_MARKED = re.compile(r"([\\`*_\[\]<>|#~&!])")


def summary(run: Mapping[str, Any], directory: Path) -> str:
    """Return the summary of a run."""
    commit = str(run["facts"].get("commit", ""))[:7] or "no commit"
    parts = [
        f"## {words.MARKS.get(run['status'], '✗')} {_text(run['subject'])} @ {commit}: {run['status']} in {words.seconds(run['seconds'])}\n"
    ]
    rows = [
        [
            words.MARKS.get(entry["status"], ""),
            f"**{_text(entry['name'])}**",
            words.seconds(entry["seconds"]) if entry["seconds"] else "",
            _said(entry),
        ]
        for entry in run["stages"]
    ]
    parts.append(_table(["", "stage", "time", "result"], rows))
    judged = suites(directory, run)
    if judged:
        parts.append(_table(["suite", "verdict", "score", "95 % Wilson interval", "floor", "samples"], [_suite(suite) for suite in judged]))
    parts += [_failure(entry, entry["failure"]) for entry in run["stages"] if entry.get("failure")]
    return "\n".join([*parts, f"Record: `{run['id']}`\n"])


def _said(entry: Mapping[str, Any]) -> str:
    if entry["status"] in {"reused", "skipped", "cancelled", "waiting"}:
        return f"{entry['status']}: {_text(entry['why'])}"
    return _text(entry["summary"])


def _suite(suite: Mapping[str, Any]) -> list[str]:
    low, high = wilson(suite.get("score", 0.0), suite.get("planned", 0))
    verdict = _text(str(suite.get("verdict", "")))
    return [_text(suite["name"]), verdict, f"{suite['score']:.3f}", f"{low:.3f} … {high:.3f}", f"{suite['floor']:g}", str(suite["planned"])]


def _failure(entry: Mapping[str, Any], problem: Mapping[str, Any]) -> str:
    lines = [f"### {_text(entry['name'])} failed", "", _text(problem["message"]), ""]
    for found in problem.get("findings", ())[:20]:
        place = f"{found['file']}:{found['line']}" if found["line"] else found["file"]
        lines.append(f"* {_text(place)} {_text(found['name'])}: {_text(found['message'])}")
    tail = (problem.get("tail") or "").strip("\n").splitlines()[-_TAIL_LINES:]
    if tail:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", "\n".join(tail))), default=0))
        lines += ["", f"{fence}text", *tail, fence]
    if problem.get("hint"):
        lines += ["", _text(problem["hint"])]
    again = f" -- {shlex.join(problem['again'])}" if problem.get("again") else ""
    return "\n".join([*lines, "", "Again, just this:", "", f"    {words.program()} run --only {entry['name']}{again}", ""])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _text(value: str) -> str:
    """Keep what others said from being read as Markdown or HTML."""
    return _MARKED.sub(r"\\\1", " ".join(str(value).split()))
