"""Says why a stage runs again, following the change to where it comes from: which inputs, which lines of a file, which step of the engine.

Lines are told only where both sides can be had: git still has the file as the earlier run saw it. Steps are those of the run that did the
work, from its record; which one will miss the next time is not known before it runs.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from typing import TYPE_CHECKING

from ci.facts import git
from ci.inputs import differences
from ci.paths import RUNS

if TYPE_CHECKING:
    from pathlib import Path

    from ci.inputs import Inputs
    from ci.memo import Entry
    from ci.schedule import Schedule

_LARGEST = 200_000  # characters of a file whose lines are compared
_SHOWN_COMMAND = 160


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
    changed = _changes(last, verdict.inputs, "", schedule.root) if last and verdict.inputs else []
    if not changed or last is None or verdict.inputs is None:
        return [f"{name} runs: {verdict.why}"]
    return [
        f"{name} runs again because",
        *(f"  {change}" for change in changed),
        f"last done {_when(last)}",
        *_rest(last.inputs, verdict.inputs),
    ]


def _reused(name: str, entry: Entry, schedule: Schedule) -> list[str]:
    lines = [f"{name} is reused: none of its inputs changed since it was done {_when(entry)}"]
    before = schedule.memo.before(entry)
    changed = _changes(before, entry.inputs, entry.commit, schedule.root) if before else []
    lines += ["it ran then because", *(f"  {change}" for change in changed)] if changed else []
    return lines + missed(schedule.root / RUNS / entry.run, name)


def missed(run: Path, name: str) -> list[str]:
    """Return which step of a stage was the first that the engine did not have in its cache, in a run whose record is still there."""
    try:
        stages = json.loads((run / "run.json").read_bytes())["stages"]
        steps = next(stage["steps"] for stage in stages if stage["name"] == name)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return []
    first = next((number for number, step in enumerate(steps) if not step["cached"]), None)
    if first is None:
        return [f"all of its {len(steps)} steps came from the engine's cache then"] if steps else []
    command = " ".join(steps[first]["command"].split())
    shown = command if len(command) <= _SHOWN_COMMAND else command[: _SHOWN_COMMAND - 1] + "…"
    ran = sum(not step["cached"] for step in steps)
    return [f"of its {len(steps)} steps {ran} ran then; the first that was not in the engine's cache was number {first + 1}", f"  {shown}"]


def _changes(before: Entry, after: Inputs, commit: str, root: Path) -> list[str]:
    """Return what changed, with lines for files; `commit` is where `after` was seen, empty for the working tree."""
    said = []
    for change in differences(before.inputs, after):
        name = change.removesuffix(" changed")
        known = name in before.inputs.files and name in after.files
        said.append(change + (_lines(root, name, before, after.files[name], commit) if known else ""))
    return said


def _lines(root: Path, name: str, before: Entry, digest: str, commit: str) -> str:
    old = _text(_committed(root, before.commit, name), before.inputs.files[name])
    new = (_text(_committed(root, commit, name), digest) if commit else None) or _text(_there(root / name), digest)
    if old is None or new is None:
        return ""
    added = removed = place = 0
    for kind, low, high, begin, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            place = place or begin + 1
            removed, added = removed + high - low, added + end - begin
    return f" (line {place}, +{added} −{removed})" if place else ""


def _text(data: bytes | None, digest: str) -> list[str] | None:
    """Return a file's lines, when it is the one of that digest and fit to be compared."""
    if data is None or len(data) > _LARGEST or b"\0" in data or hashlib.sha256(data).hexdigest() != digest.removesuffix("+x"):
        return None
    return data.decode(errors="replace").splitlines()


def _committed(root: Path, commit: str, name: str) -> bytes | None:
    said = git(root, "show", "--end-of-options", f"{commit}:./{name}") if commit else None
    return None if said is None else said.encode(errors="surrogateescape")


def _there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _rest(before: Inputs, after: Inputs) -> list[str]:
    """Name what was looked at and found as it was."""
    files = sum(before.files.get(name) == digest for name, digest in after.files.items())
    needs = [name for name, digest in after.needs.items() if before.needs.get(name) == digest]
    parts = [f"{files} file{'s' if files > 1 else ''}"] if files else []
    parts += [f"results of {', '.join(needs)}"] if needs else []
    pairs = {
        "configuration": (before.config, after.config),
        "base image": (before.base, after.base),
        "engine": (before.engine, after.engine),
        "Python": (before.python, after.python),
        "the pipeline itself": (before.code, after.code),
    }
    parts += [what for what, (old, new) in pairs.items() if old == new and new]
    return [f"everything else is as it was: {', '.join(parts)}"] if parts else []


def _when(entry: Entry) -> str:
    return f"at {entry.commit[:7] or 'no commit'} in run {entry.run}"
