"""The lines of the terminal report as text, made from the record alone: the same facts in the same order on every kind of terminal."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from ci import __version__
from ci.exits import BUG, SIGNALLED, Exit

if TYPE_CHECKING:
    from ci.record import RunRecord, StageEntry

MARKS = {"passed": "✓", "reused": "=", "failed": "✗", "cancelled": "✗", "skipped": "◦", "waiting": "◦", "running": "▸", "noted": "…"}
_HOSTS = {"local": "local run", "github": "GitHub", "gitlab": "GitLab"}
_COLUMN = 40
_WORTH_TELLING = 0.5


def program() -> str:
    """Return how this program was started, for commands that are shown to be repeated."""
    return "python -m ci" if sys.argv[0].endswith("__main__.py") else "weighbridge"


def seconds(value: float) -> str:
    """Return a duration: `0.2 s`, `41.3 s`, `2 min 05 s`."""
    if value < 99.95:
        return f"{value:.1f} s"
    return f"{int(value + 0.5) // 60} min {int(value + 0.5) % 60:02d} s"


def subject(record: RunRecord) -> str:
    """Return what runs: `weighbridge 0.1.0 · digits-vlm @ 4f1c2ab (dirty: 2 files)`."""
    count = len(record.facts.dirty)
    dirty = f" (dirty: {count} file{'s' if count > 1 else ''})" if count else ""
    return f"weighbridge {__version__} · {record.subject} @ {record.facts.short}{dirty}"


def head(record: RunRecord) -> str:
    """Return the first line of a run in which something has to be done."""
    event = f", {record.facts.event.replace('_', ' ')}" if record.facts.host != "local" else ""
    return f"{subject(record)} · {_HOSTS[record.facts.host]}{event}"


def engine(record: RunRecord, also: str = "") -> str:
    """Return the line about the engine; `also` names a container runtime that is here too."""
    known = record.engine
    if not known:
        return "engine   not needed"
    name = ", ".join(part for part in (known.get("engine", ""), known.get("tier", "")) if part)
    parts = [name, known.get("version", ""), known.get("why", "")]
    note = f"    {also} is here too: --engine dagger" if also and known.get("engine") == "pocket" else ""
    return "engine   " + " · ".join(part for part in parts if part) + note


def base(record: RunRecord) -> str:
    """Return the line about the base: which, and why not the one that is configured."""
    known = record.base
    if not known:
        return "base     not needed"
    if known["kind"] != "host":
        return f"base     {known['description']} · {known['identity'][:19]}…"
    refused = "; ".join([*known["tried"], "releases refuse this base"] if known["tried"] else [])
    return f"base     host → {known['description']}" + (f"    {refused}" if refused else "")


def plan(record: RunRecord) -> str:
    """Return the line about the plan."""
    running = [" ".join(part for part in (stage.name, stage.detail) if part) for stage in record.plan.stages if stage.do == "run"]
    skipped = [f"{stage.name}: {_one_line(stage.why)}" for stage in record.plan.stages if stage.do == "skip" and not unasked(stage.why)]
    parts = [" · ".join(running), f"not {'; '.join(skipped)}" if skipped else "", budget(record)]
    return "plan     " + "    ".join(part for part in parts if part)


def answers(record: RunRecord) -> list[str]:
    """Return a line for each waiver and approval: what it is for, who gave it, and why."""
    lines = [
        f"waiver   {_one_line(f'{given.label} · {given.by}: ' + (given.reason or 'no reason given'))}" for given in record.plan.waivers
    ]
    return lines + [
        f"approval {given.commit[:7]} · {_one_line(f'{given.by} on {given.when}: {given.why}')}" for given in record.plan.approvals
    ]


def _one_line(text: str) -> str:
    """Keep what others wrote from being a line of its own, or a command of GitHub's."""
    return " ".join(text.split()).replace("##[", "## [")


def budget(record: RunRecord) -> str:
    """Return what the run may take and will probably take; empty when neither is known."""
    known = record.budget
    least = "at least " if known.get("unknown") else ""
    parts = [f"budget {known['minutes']:g} min"] if known.get("minutes") else []
    parts += [f"expected {least}{seconds(known['expected'])}"] if known.get("expected") else []
    return ", ".join(parts)


def unasked(why: str) -> bool:
    """Tell whether a stage is left out because the person at the keyboard left it out, who need not be told."""
    return why.startswith("not asked for")


def width(record: RunRecord) -> int:
    """Return the width of the column of names."""
    return max(12, *(len(name) for name in record.stages))


def stage(entry: StageEntry, columns: int) -> str:
    """Return the line of a stage that ended."""
    took = "" if entry.status == "reused" else seconds(entry.seconds)
    said = (
        f"reused: {entry.why}"
        if entry.status == "reused"
        else " · ".join(part for part in (entry.summary, steps(entry), trouble(entry)) if part)
    )
    return f" {MARKS[entry.status]} {entry.name:<{columns}} {took:>10}   {said}".rstrip()


def trouble(entry: StageEntry) -> str:
    """Return what a stage met besides its work: `attempt 3`, `waited 12.0 s`."""
    parts = [f"attempt {len(entry.attempts) + 1}"] if entry.attempts else []
    parts += [f"waited {seconds(entry.waited)}"] if entry.waited >= _WORTH_TELLING else []
    return " · ".join(parts)


def steps(entry: StageEntry) -> str:
    """Return how many of a stage's steps the engine ran: `5 steps, 3 cached`."""
    if not entry.execs:
        return ""
    ran, cached = entry.execs["ran"], entry.execs["cached"]
    count = f"{ran + cached} step{'s' if ran + cached > 1 else ''}"
    return f"{count}, {'all' if not ran else cached} cached" if cached else count


def failure(entry: StageEntry, record: RunRecord) -> list[str]:
    """Return what is shown of a failure below its line: places, the program's own last words, what to do."""
    problem = entry.failure
    if problem is None:
        return []
    places: list[str] = []
    for finding in problem.findings[:10]:
        place = f"{finding.file}:{finding.line}" if finding.file and finding.line else finding.file
        places.append(f"{finding.name or finding.message:<{_COLUMN}} {place}".rstrip())
        if finding.name and finding.message:
            places.append(f"  {finding.message}")
    if len(problem.findings) > 10:
        places.append(f"and {len(problem.findings) - 10} more")
    arguments = f" -- {shlex.join(problem.again)}" if problem.again else ""
    advice = [f"again, just this     {program()} run --only {entry.name}{arguments}"]
    if entry.execs:
        advice.append(f"look inside          {program()} shell {entry.name}")
    if (record.directory / "logs" / f"{entry.name}.log").exists():
        advice.append(f"whole output         {record.directory.relative_to(record.root)}/logs/{entry.name}.log")
    log = record.directory / "logs" / "engine.log"
    if problem.exit in {Exit.INFRA, BUG} and log.exists() and log.stat().st_size:
        advice.append(f"engine's words       {log.relative_to(record.root)}")
    blocks = [problem.message.splitlines()[1:], places, problem.tail.strip("\n").splitlines(), problem.hint.splitlines(), advice]
    return [line for block in blocks if block for line in ("", *(f"   {line}".rstrip() for line in block))] + [""]


def end(record: RunRecord) -> list[str]:
    """Return the last lines of a run."""
    where = [*record.notes, shown_at(record)]
    if record.exit == 0:
        pushed = record.stages.get("push")
        return [f"passed in {seconds(record.seconds)}" + (f"    {pushed.summary}" if pushed and pushed.summary else ""), *where]
    failed = [entry.name for entry in record.stages.values() if entry.status == "failed"]
    code = record.exit or 0
    exceeded = f"the time budget of {record.budget.get('minutes', 0):g} min was exceeded" if code == Exit.BUDGET else ""
    cause = f"{', '.join(failed)} failed" if failed else exceeded or record.status
    cause = f"interrupted by signal {code - SIGNALLED}" if code > SIGNALLED else cause
    rest = [entry.name for entry in record.stages.values() if entry.status == "skipped" and entry.why.startswith("not run")]
    stopped = [entry.name for entry in record.stages.values() if entry.status == "cancelled"]
    parts = [f"stopped: {cause} (exit {code})."]
    parts += [f"Cancelled: {', '.join(stopped)}."] if stopped else []
    parts += [f"Not run: {', '.join(rest)}."] if rest else []
    return [" ".join(parts), *(_spent(record) if exceeded else []), *where]


def _spent(record: RunRecord) -> list[str]:
    """Return what took the time of a run that took too long, and what to do about it."""
    lines = ["", "   what took the time", *(f"     {line}" for line in record.budget.get("spent", ())), ""]
    again = f"   more time, once      {program()} run --budget {max(2 * record.budget['minutes'], 1):g}"
    return [*lines, again, "   more time, always    policy.budget and policy.hotfix_budget in configs/pipeline.yaml", ""]


def shown_at(record: RunRecord) -> str:
    """Return where the run can be looked at: its page, or its directory when there is no page."""
    page = record.directory / "report.html"
    return f"report {page.relative_to(record.root)}" if page.exists() else f"record {record.directory.relative_to(record.root)}"


def nothing_changed(record: RunRecord) -> str:
    """Return the one line of a run in which everything was reused."""
    reused = [entry for entry in record.stages.values() if entry.status == "reused"]
    since = max((entry.from_run for entry in reused), default="")
    count = f"{len(reused)} stage{'s' if len(reused) != 1 else ''} reused in {seconds(record.seconds)}"
    return "\n".join([f"{subject(record)} · nothing changed since run {since} (passed): {count}", *answers(record), *record.notes])
