"""When what ran, of a run's record: a bar per stage, and below it one per step of the engine; and what that cost of machines and GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ci.report import words
from ci.report.parts import badge, table

_SHOWN = 40
_LONG = 120


def timeline(run: Mapping[str, Any]) -> str:
    """Return stages and steps as bars over the time of the run."""
    total = max([float(run["seconds"]), 0.001, *(entry["started"] + entry["seconds"] for entry in run["stages"])])
    rows = "".join(_lane(entry, total) for entry in run["stages"])
    reused = sum(entry["status"] == "reused" for entry in run["stages"])
    steps = [entry["execs"] for entry in run["stages"] if entry.get("execs")]
    counts = [f"{reused} of {len(run['stages'])} stages reused"]
    if steps:
        counts.append(f"{sum(step['cached'] for step in steps)} of {sum(step['ran'] + step['cached'] for step in steps)} steps cached")
    return f'<p class="soft">0 to {words.seconds(total)} · {" · ".join(counts)}</p><ol class="lanes">{rows}</ol>'


def costs(run: Mapping[str, Any]) -> str:
    """Return what each stage took: work, waiting, GPUs, steps; empty when nothing worked."""
    worked = [entry for entry in run["stages"] if entry["seconds"]]
    if not worked:
        return ""
    rows = [_cost(escape(entry["name"]), [entry]) for entry in worked]
    rows.append(_cost("<strong>together</strong>", worked))
    heads = ["stage", "worked#", "waited#", "GPU time#", "steps run#", "steps cached#", "attempts in vain#"]
    note = "GPU time: seconds of work times GPUs held. Stages work side by side, so that the sum is more than the run took."
    return table("What each stage took", heads, rows) + f'<p class="soft">{note}</p>'


def _cost(name: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    steps = [entry.get("execs") or {} for entry in entries]
    held = sum(entry["seconds"] * len(entry.get("gpus") or ()) for entry in entries)
    return [
        name,
        words.seconds(sum(entry["seconds"] for entry in entries)),
        words.seconds(sum(float(entry.get("waited") or 0) for entry in entries)),
        words.seconds(held) if held else "none",
        str(sum(step.get("ran", 0) for step in steps)),
        str(sum(step.get("cached", 0) for step in steps)),
        str(sum(len(entry.get("attempts") or ()) for entry in entries)),
    ]


def _lane(entry: Mapping[str, Any], total: float) -> str:
    took = words.seconds(entry["seconds"]) if entry["seconds"] else ""
    bar = _bar(entry, entry["status"], total)
    return (
        f'<li><span><strong>{escape(entry["name"])}</strong></span><span class="track" aria-hidden="true">{bar}</span>'
        f'<span class="time">{took}</span><span class="said">{badge(entry["status"])} {escape(" · ".join(_said(entry)))}</span>'
        f"{_steps(entry, total)}</li>"
    )


def _bar(entry: Mapping[str, Any], kind: str, total: float) -> str:
    if not entry["seconds"]:
        return ""
    left = min(100 * float(entry.get("started") or 0) / total, 99.9)
    width = min(100 * entry["seconds"] / total, 100 - left)
    return f'<span class="bar {escape(kind)}" style="left:{left:.2f}%;width:{width:.2f}%"></span>'


def _steps(entry: Mapping[str, Any], total: float) -> str:
    """Return the steps of a stage; of a record that does not say when they began, as a list without bars."""
    steps = list(entry.get("steps") or ())
    if not steps:
        return ""
    rows = "".join(_step(step, total) for step in steps[:_SHOWN])
    more = f'<li class="soft">and {len(steps) - _SHOWN} more, in run.json</li>' if len(steps) > _SHOWN else ""
    count = f"{len(steps)} step{'s' if len(steps) > 1 else ''}"
    return f'<details class="steps"><summary>{count} of the engine</summary><ol class="lanes">{rows}{more}</ol></details>'


def _step(step: Mapping[str, Any], total: float) -> str:
    kind = "reused" if step.get("cached") else "passed"
    command = str(step.get("command") or "a step")
    shown = command if len(command) <= _LONG else command[: _LONG - 1] + "…"
    track = (
        f'<span class="track" aria-hidden="true">{_bar(step, kind, total)}</span>' if "started" in step else '<span class="track"></span>'
    )
    said = "cached" if step.get("cached") else "ran"
    took = words.seconds(float(step["seconds"]))
    return (
        f'<li><span>{badge(kind).replace(f">{kind}<", f">{said}<")}</span>{track}<span class="time">{took}</span>'
        f'<span class="said"><code>{escape(shown)}</code></span></li>'
    )


def _said(entry: Mapping[str, Any]) -> list[str]:
    steps = entry.get("execs")
    count = f"{steps['ran']} step{'s' if steps['ran'] != 1 else ''} ran, {steps['cached']} cached" if steps else ""
    waited = f"waited {words.seconds(entry['waited'])} for {entry.get('waited_for') or 'its turn'}" if entry.get("waited") else ""
    origin = f"from run {entry['from_run']}" if entry["from_run"] else ""
    return [str(part) for part in (entry["summary"], count, waited, entry["why"], origin) if part]
