"""Says why a stage runs again, following the change to where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.inputs import differences

if TYPE_CHECKING:
    from ci.memo import Entry
    from ci.schedule import Schedule


def explain(name: str, schedule: Schedule) -> list[str]:
    """Return why a stage would run now; of one that would not, why it last ran."""
    verdicts = schedule.survey(list(schedule.stages))
    verdict = verdicts[name]
    if verdict.entry:
        return _reused(name, verdict.entry, schedule)
    last = schedule.memo.last(name)
    if verdict.inputs is None and last:
        lines = [f"{name} runs again: {verdict.why}"]
        for need in schedule.stages[name].needs:
            if not verdicts[need].entry:
                lines += [f"  {line}" for line in explain(need, schedule)]
        return lines
    changed = differences(last.inputs, verdict.inputs) if last and verdict.inputs else []
    if not changed or last is None:
        return [f"{name} runs: {verdict.why}"]
    return [
        f"{name} runs again because",
        *(f"  {change}" for change in changed),
        f"last done {_when(last)}",
        "everything else is as it was",
    ]


def _reused(name: str, entry: Entry, schedule: Schedule) -> list[str]:
    lines = [f"{name} is reused: none of its inputs changed since it was done {_when(entry)}"]
    before = schedule.memo.before(entry)
    if before:
        changed = differences(before.inputs, entry.inputs)
        lines += ["it ran then because", *(f"  {change}" for change in changed)] if changed else []
    return lines


def _when(entry: Entry) -> str:
    return f"at {entry.commit[:7] or 'no commit'} in run {entry.run}"
