"""The page of a run: one HTML file, made from the record alone, that works offline and without scripts.

Everything that a subject or a model said is escaped; a content security policy lets nothing be loaded and no script run but the page's own.
A page that cannot be made costs the page, never the run.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ci.paths import cache_root, write_atomically
from ci.report import evidence, words
from ci.report.findings import findings
from ci.report.parts import badge, page_of, table
from ci.report.policy import policy
from ci.report.samples import Browser, Shown, browse, suite_files
from ci.report.timeline import costs, timeline

PAGE = "report.html"
_CASES, _FINDINGS = 1000, 50
_HOSTS = {"local": "local run", "github": "GitHub", "gitlab": "GitLab"}


def write_quietly(directory: Path, root: Path) -> None:
    """Write the page of a run that ends; what goes wrong is noted beside the record and nowhere else."""
    try:
        write(directory, root)
    except Exception as error:  # noqa: BLE001  the run's outcome does not depend on its page
        import contextlib

        with contextlib.suppress(OSError):
            (directory / "logs").mkdir(exist_ok=True)
            (directory / "logs" / "report.log").write_text(f"{PAGE} could not be made: {type(error).__name__}: {error}\n")


def write(directory: Path, root: Path) -> Path:
    """Write report.html into a run's directory; `root` is the repository whose suites are the questions. Returns its path."""
    page = directory / PAGE
    write_atomically(page, render(directory, suite_files(root, cache_root())).encode("utf-8", "replace"))
    return page


def render(directory: Path, questions: Mapping[str, Path]) -> str:
    """Return the page; `questions` names the file of each suite, where pictures and prompts are taken from."""
    run = evidence.read_run(directory)
    suites = evidence.suites(directory, run)
    cases = evidence.read_cases(directory / "junit.xml")
    covered = evidence.read_coverage(directory / "coverage.xml")
    samples = browse(directory / "samples.jsonl", questions)
    parts = {
        "Failure": ("failure", _failures(run, directory)),
        "Policy": ("policy", policy(evidence.read_json(directory / "plan.json"))),
        "Timeline": ("timeline", timeline(run)),
        "Costs": ("costs", costs(run)),
        "Evaluation": ("evaluation", _scores(suites)),
        "Samples": ("samples", _samples(samples)),
        "Tests": ("tests", _tests(cases)),
        "Scan": ("scan", findings(evidence.read_json(directory / "scan.json"))),
        "Coverage": ("coverage", _coverage(covered)),
    }
    filled = {title: part for title, part in parts.items() if part[1]}
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for title, (name, _) in filled.items())
    sections = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{body}</section>' for title, (name, body) in filled.items()
    )
    body = (
        f'<a class="skip" href="#main">Skip to the report</a><header>{_head(run)}<nav aria-label="Sections"><ul>{links}</ul></nav></header>'
        f'<main id="main">{sections}</main><footer>weighbridge {escape(str(run["weighbridge"]))} · made from '
        f"<code>{escape(run['id'])}/run.json</code> and the files beside it</footer>"
    )
    return page_of(f"{run['status']}: {run['subject']} @ {_commit(run)}", body)


def _commit(run: Mapping[str, Any]) -> str:
    return str(run["facts"].get("commit", ""))[:7] or "no commit"


def _head(run: Mapping[str, Any]) -> str:
    facts, engine, base = run["facts"], run.get("engine") or {}, run.get("base") or {}
    dirty = len(facts.get("dirty") or ())
    pushed = evidence.stage(run, "push").get("result") or {}
    url = str(facts.get("run_url", ""))
    event = " ".join(part for part in (_HOSTS.get(facts["host"], facts["host"]), str(facts["event"]).replace("_", " ")) if part != "local")
    about = {
        "commit": f"{facts.get('commit') or 'none'}" + (f" (dirty: {dirty} file{'s' if dirty > 1 else ''})" if dirty else ""),
        "branch": facts.get("branch", ""),
        "event": event + (f" {facts['number']}" if facts.get("number") else ""),
        "started": str(run["started"]).replace("T", " ").replace("Z", " UTC"),
        "took": words.seconds(float(run["seconds"])),
        "engine": " ".join(str(engine.get(key, "")) for key in ("engine", "version")).strip() or "not needed",
        "tier": engine.get("tier", ""),
        "base": f"{base['kind']}: {base.get('description', '')}" if base else "not needed",
        "not used": "; ".join(base.get("tried") or ()),
        "image": pushed.get("image", ""),
        "model": pushed.get("artefact", ""),
        "pushed to": pushed.get("target", ""),
    }
    rows = "".join(f"<div><dt>{key}</dt><dd>{escape(str(value))}</dd></div>" for key, value in about.items() if value)
    if url.startswith(("https://", "http://")):
        rows += f'<div><dt>on the host</dt><dd><a href="{escape(url)}">{escape(url)}</a></dd></div>'
    return (
        f"<h1>{badge(str(run['status']))} {escape(str(run['subject']))} @ {escape(_commit(run))}</h1>"
        f'<p class="soft">run {escape(run["id"])}, exit code {run["exit"]}</p><dl>{rows}</dl>'
    )


def _failures(run: Mapping[str, Any], directory: Path) -> str:
    return "".join(_failure(entry, entry["failure"], directory) for entry in run["stages"] if entry.get("failure"))


def _failure(entry: Mapping[str, Any], problem: Mapping[str, Any], directory: Path) -> str:
    again = f" -- {shlex.join(problem['again'])}" if problem.get("again") else ""
    findings = problem.get("findings") or []
    listed = "".join(
        f"<li><code>{escape(_place(found))}</code> {escape(found.get('name') or '')} {escape(found.get('message') or '')}</li>"
        for found in findings[:_FINDINGS]
    )
    more = f'<p class="soft">and {len(findings) - _FINDINGS} more</p>' if len(findings) > _FINDINGS else ""
    log = f"logs/{entry['name']}.log"
    whole = f'<p>Whole output: <a href="{escape(log)}">{escape(log)}</a></p>' if (directory / log).exists() else ""
    tail = str(problem.get("tail") or "").strip("\n")
    hint = escape(str(problem.get("hint") or ""))
    return (
        f"<h3>{badge('failed')} {escape(entry['name'])}</h3><p>{escape(problem['message'])}</p>"
        + (f"<ul>{listed}</ul>{more}" if listed else "")
        + (f'<pre tabindex="0" role="region" aria-label="Last output of {escape(entry["name"])}">{escape(tail)}</pre>' if tail else "")
        + (f"<p>{hint}</p>" if hint else "")
        + f"<p>Again, just this: <code>{escape(_again(entry, again))}</code></p>"
        + (f"<p>Look inside: <code>{escape(words.program())} shell {escape(entry['name'])}</code></p>" if entry.get("execs") else "")
        + whole
    )


def _again(entry: Mapping[str, Any], arguments: str) -> str:
    return f"{words.program()} run --only {entry['name']}{arguments}"


def _place(finding: Mapping[str, Any]) -> str:
    return f"{finding.get('file')}:{finding.get('line')}" if finding.get("line") else str(finding.get("file") or "")


def _scores(suites: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for suite in suites:
        planned, score = int(suite.get("planned", 0)), float(suite.get("score", 0))
        low, high = evidence.wilson(score, planned)
        rows.append(
            [
                f"<strong>{escape(str(suite.get('name')))}</strong>",
                badge(str(suite.get("verdict", ""))),
                f"{score:.3f}",
                f"{low:.3f} … {high:.3f}",
                f"{float(suite.get('floor', 0)):g}",
                f"{suite.get('completed', planned)} / {planned}",
                str(suite.get("truncated", 0)),
                f"{float(suite['p50_s']):.3f} s" if "p50_s" in suite else "",
                escape(str(suite.get("reason", ""))),
            ]
        )
    if not rows:
        return ""
    heads = ["suite", "verdict", "score#", "95 % Wilson interval#", "floor#", "answered#", "truncated#", "median latency#", "reason"]
    note = "The interval takes samples as independent; the gate compares the score on exactly these samples with the floor."
    return table("Scores per suite", heads, rows) + f'<p class="soft">{note}</p>'


def _samples(browser: Browser) -> str:
    if not browser.shown:
        return ""
    suites = list(dict.fromkeys(sample.suite for sample in browser.shown))
    options = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in suites)
    first: set[str] = set()
    items = "".join(_sample(sample, first) for sample in browser.shown)
    return (
        f'<p class="soft">{browser.wrong} of {browser.total} answers are wrong or missing; these come first. All of them: '
        '<a href="samples.jsonl">samples.jsonl</a></p><form class="filter" hidden>'
        f'<label>Suite <select><option value="">all</option>{options}</select></label>'
        '<label>Answers <select><option value="">all</option><option value="wrong">wrong or missing</option>'
        '<option value="right">right</option></select></label>'
        f'<span class="soft" id="shown" role="status"></span></form><ul class="samples">{items}</ul>'
    )


def _sample(sample: Shown, first: set[str]) -> str:
    anchor = ""
    if sample.verdict != "right" and sample.suite not in first:
        first.add(sample.suite)
        anchor = f' id="{escape(sample.suite)}-wrong"'
    picture = f'<img src="{sample.picture}" alt="what {escape(sample.id)} asks about" width="72" height="72">' if sample.picture else ""
    got = "no answer: " + sample.output if sample.verdict == "unanswered" else sample.output
    return (
        f'<li data-suite="{escape(sample.suite)}" data-verdict="{sample.verdict}"{anchor}>{picture}<div>'
        f'<p>{badge(sample.verdict)} <span class="mono">{escape(sample.id)}</span></p>'
        + (f"<p>{escape(sample.prompt)}</p>" if sample.prompt else "")
        + f'<p><span class="soft">answer</span> {escape(got) or "(empty)"}</p>'
        + (f'<p><span class="soft">expected</span> {escape(sample.expected)}</p>' if sample.verdict != "right" else "")
        + "</div></li>"
    )


def _tests(cases: Sequence[evidence.Case]) -> str:
    if not cases:
        return ""
    counts = {name: sum(case.outcome == name for case in cases) for name in ("failed", "skipped", "passed")}
    rows = [
        [
            badge(case.outcome),
            escape(case.name) + (f'<br><span class="soft">{escape(case.message[:400])}</span>' if case.message else ""),
            f"<code>{escape(case.place)}</code>",
            f"{case.seconds:.3f} s",
        ]
        for case in cases[:_CASES]
    ]
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    listed = table("All tests", ["result", "test", "place", "time#"], rows)
    opened = " open" if counts["failed"] else ""
    return f"<details{opened}><summary>{said}; the slowest first</summary>{listed}</details>"


def _coverage(covered: Sequence[evidence.Covered]) -> str:
    lines = sum(item.lines for item in covered)
    if not lines:
        return ""
    rows = [
        [
            f"<code>{escape(item.file)}</code>",
            f"{100 * item.covered / item.lines if item.lines else 100:.1f} %",
            f"{item.covered} / {item.lines}",
            item.missing,
        ]
        for item in covered
    ]
    total = f"{100 * sum(item.covered for item in covered) / lines:.1f} % of {lines} lines"
    listed = table("Coverage by file", ["file", "covered#", "lines#", "lines not covered"], rows)
    return f"<details><summary>{total} in {len(covered)} files</summary>{listed}</details>"
