"""A static site over many runs: one page with trends, durations, flakes and the runs, and each run's own page beside it. Works offline.

It is made from records alone and replaced as a whole, page by page, so that a directory that is served stays readable meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ci.errors import InfraError
from ci.paths import RUNS, write_atomically
from ci.report import evidence, html, trends, words
from ci.report.chart import chart
from ci.report.parts import badge, page_of, table
from ci.report.samples import suite_files

_TAKEN = ("samples.jsonl", "run.json", "plan.json", "junit.xml", "coverage.xml", "gate.json")
_SHOWN_FLAKES = 50


def write_site(root: Path, runs: Sequence[Mapping[str, Any]], target: Path, cache: Path) -> Path:
    """Write the site of these runs (the newest first) into a directory; returns the path of its first page.

    Raises:
        InfraError: the directory cannot be written.

    """
    questions = suite_files(root, cache)
    try:
        shown = {run["id"] for run in runs if _copy(root / RUNS / run["id"], target / "runs" / run["id"], questions)}
        page = target / "index.html"
        write_atomically(page, render(runs, root / RUNS, shown).encode("utf-8", "replace"))
    except OSError as error:
        raise InfraError(f"the site cannot be written: {error.strerror}", where=str(target)) from error
    return page


def render(runs: Sequence[Mapping[str, Any]], directory: Path, shown: set[str]) -> str:
    """Return the first page; `directory` holds the runs' directories, `shown` names those that have a page beside this one."""
    oldest_first = list(reversed(runs))
    parts = {
        "Scores": ("scores", _scores(oldest_first)),
        "Durations": ("durations", _durations(oldest_first)),
        "Flakes": ("flakes", _flakes(oldest_first, directory)),
        "Runs": ("runs", _runs(runs, shown)),
    }
    filled = {title: part for title, part in parts.items() if part[1]}
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for title, (name, _) in filled.items())
    sections = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{body}</section>' for title, (name, body) in filled.items()
    )
    subject = str(runs[0]["subject"]) if runs else "no runs yet"
    body = (
        f'<a class="skip" href="#main">Skip to the report</a><header><h1>{escape(subject)}</h1>{_tiles(runs)}'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main id="main">{sections}</main>'
        f"<footer>made from the records of {len(runs)} runs</footer>"
    )
    return page_of(f"{subject}: {len(runs)} runs", body)


def _tiles(runs: Sequence[Mapping[str, Any]]) -> str:
    judged = [run for run in runs if run["status"] in {"passed", "failed", "blocked"}]
    passed = sum(run["status"] == "passed" for run in judged)
    again, flaky = trends.flake_rate(runs)
    duration = trends.durations(runs).points
    median = sorted(point.value for point in duration)[len(duration) // 2] if duration else 0.0
    tiles = [
        (str(len(runs)), "runs"),
        (f"{100 * passed / len(judged):.0f} %" if judged else "–", f"of {len(judged)} verdicts passed"),
        (words.seconds(median) if duration else "–", "median duration"),
        (f"{flaky} of {again}", "commits judged twice that passed and failed"),
    ]
    return '<ul class="tiles">' + "".join(f"<li><strong>{value}</strong>{what}</li>" for value, what in tiles) + "</ul>"


def _scores(runs: Sequence[Mapping[str, Any]]) -> str:
    found = trends.scores(runs)
    figures = "".join(chart(trend, write=lambda value: f"{value:.3f}", most=1.0) for trend in found)
    note = "A point is a run that asked the model; the dashed line is the floor of the last one."
    return f'<div class="charts">{figures}</div><p class="soft">{note}</p>' if figures else ""


def _durations(runs: Sequence[Mapping[str, Any]]) -> str:
    found = trends.times(runs)
    if not found:
        return ""
    rows = [
        [escape(each.name), str(each.count), words.seconds(each.median), words.seconds(each.p90), words.seconds(each.last)]
        for each in found
    ]
    whole = trends.durations(runs)
    figure = f'<div class="charts">{chart(whole, write=words.seconds, kind="passed", from_zero=True)}</div>' if whole.points else ""
    return figure + table("Durations per stage", ["stage", "worked in#", "median#", "90 % within#", "last#"], rows)


def _flakes(runs: Sequence[Mapping[str, Any]], directory: Path) -> str:
    found = trends.flakes(runs, directory)
    again, _ = trends.flake_rate(runs)
    if not found:
        return f'<p class="soft">None: no commit gave two different outcomes. {again} commits were judged more than once.</p>'
    rows = [
        [
            f"<code>{escape(flake.name)}</code>",
            f"{100 * flake.commits / flake.judged:.0f} %",
            f"{flake.commits} of {flake.judged}",
            escape(flake.last),
        ]
        for flake in found[:_SHOWN_FLAKES]
    ]
    note = "The share of commits judged more than once that gave both outcomes, on clean trees. Decide of each: mend, or take it out."
    return table("Flakes", ["what", "rate#", "commits#", "failed last in"], rows) + f'<p class="soft">{note}</p>'


def _runs(runs: Sequence[Mapping[str, Any]], shown: set[str]) -> str:
    rows = []
    for run in runs:
        name = escape(str(run["id"]))
        facts = run["facts"]
        suites = (evidence.stage(run, "evaluate").get("result") or {}).get("suites") or ()
        rows.append(
            [
                f'<a href="runs/{name}/report.html">{name}</a>' if run["id"] in shown else name,
                badge(str(run["status"])),
                f"<code>{escape(str(facts.get('commit') or '')[:7] or 'none')}</code>",
                escape(str(facts.get("branch") or facts.get("tag") or "")),
                words.seconds(float(run["seconds"])),
                escape(" · ".join(f"{suite['name']} {float(suite['score']):.3f}" for suite in suites)),
            ]
        )
    return table("All runs", ["run", "status", "commit", "branch", "took#", "scores"], rows) if rows else ""


def _copy(source: Path, target: Path, questions: Mapping[str, Path]) -> bool:
    """Put a run's page and what it links to beside the site; a run that cannot be shown is left out."""
    try:
        text = html.render(source, questions)
    except (ValueError, KeyError, TypeError):
        return False
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / html.PAGE, text.encode("utf-8", "replace"))
    for name in _TAKEN:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    for log in sorted((source / "logs").glob("*.log")) if (source / "logs").is_dir() else ():
        (target / "logs").mkdir(exist_ok=True)
        shutil.copyfile(log, target / "logs" / log.name)
    return True
