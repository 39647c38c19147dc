"""A run as Markdown, for a step summary: what happened, scores against floors, and each failure with what to do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ci.report import words
from ci.report.evidence import read_json, stage, suites, wilson

_TAIL_LINES, _FINDINGS = 60, 20
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
    parts += [_policy(read_json(directory / "plan.json")), _found(stage(run, "scan"))]
    parts += [_failure(entry, entry["failure"]) for entry in run["stages"] if entry.get("failure")]
    return "\n".join([*filter(None, parts), f"Record: `{run['id']}`\n"])


def _policy(plan: Mapping[str, Any]) -> str:
    """Return the rules that applied, and the waivers and approvals that somebody answers for."""
    said = [[_text(rule["policy"]), _text(rule["why"])] for rule in plan.get("policies") or ()]
    rows = [
        ["waiver", _text(one["label"]), _text(one["by"]), _text(one["reason"] or "no reason given"), ""] for one in _given(plan, "waivers")
    ]
    rows += [
        ["approval", f"`{one['commit'][:12]}`", _text(one["by"]), _text(one["why"]), _text(one["when"])]
        for one in _given(plan, "approvals")
    ]
    rules = _table(["rule", "what it said"], said) if said else ""
    return rules + (f"\n### Who answers for it\n\n{_table(['kind', 'of', 'by', 'why', 'when'], rows)}" if rows else "")


def _given(plan: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    return plan.get(name) or ()


def _found(scan: Mapping[str, Any]) -> str:
    """Return what a scan found and let pass, and what it could not look at."""
    result = scan.get("result") or {}
    rows = []
    for one in (result.get("findings") or ())[:_FINDINGS]:
        place = f"{one['file']}:{one['line']}" if one.get("line") else one["file"]
        rows.append([_text(one.get("severity", "")), _text(place), _text(one["name"]), _text(one["message"])])
    more = len(result.get("findings") or ()) - len(rows)
    notes = "".join(f"\nnot checked: {_text(note)}\n" for note in result.get("notes") or ())
    listed = _table(["severity", "place", "rule", "what"], rows) if rows else ""
    listed = f"### {_text(scan['name'])} found\n\n{listed}" if rows else ""
    return listed + (f"\nand {more} more\n" if more > 0 else "") + notes


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
