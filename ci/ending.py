"""How a run ended: one exit code and status for all that happened, and for each stage that did not happen, why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.exits import SIGNALLED, Exit, worst

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ci.record import RunRecord

_OUTCOMES = {
    Exit.PASSED: "passed",
    Exit.FAILED: "failed",
    Exit.USAGE: "usage",
    Exit.BLOCKED: "blocked",
    Exit.INCONCLUSIVE: "inconclusive",
    Exit.INFRA: "infra",
    Exit.BUDGET: "budget",
}


def conclude(record: RunRecord, codes: Iterable[int], stopped_by: str) -> None:
    """Complete a record; `stopped_by` is what stopped the run first: a stage, `engine`, `budget`, a signal, or nothing."""
    code = worst(codes)
    for entry in record.stages.values():
        if entry.status == "running":
            entry.status, entry.why = "cancelled", f"stopped: {_reason(record, stopped_by)}"
        elif entry.status == "waiting":
            entry.status, entry.why = "skipped", f"not run: {_lost(record, entry.name) or _reason(record, stopped_by)}"
    record.exit = code
    record.status = "interrupted" if code > SIGNALLED else _OUTCOMES.get(Exit(code), "") if code in set(Exit) else "bug"


def depends_on(record: RunRecord, name: str) -> set[str]:
    """Return the stages that a stage needs, directly or not."""
    needs = {stage.name: stage.needs for stage in record.plan.stages}
    found, waiting = set[str](), list(needs.get(name, ()))
    while waiting:
        need = waiting.pop()
        if need not in found:
            found.add(need)
            waiting += needs.get(need, ())
    return found


def _lost(record: RunRecord, name: str) -> str:
    needs = depends_on(record, name)
    failed = [entry.name for entry in record.stages.values() if entry.name in needs and entry.status == "failed"]
    return f"{', '.join(failed)} failed" if failed else ""


def _reason(record: RunRecord, stopped_by: str) -> str:
    if stopped_by in record.stages:
        return f"{stopped_by} failed"
    return {"engine": "the engine ended", "budget": "the time budget was exceeded"}.get(stopped_by, "interrupted")
