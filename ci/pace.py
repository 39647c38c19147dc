"""Keeps a run within its time budget: says when it is at risk, with the numbers, and ends the run when it is exceeded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from ci.budget import Budget, durations, spent, weights_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ci.record import RunRecord
    from ci.request import Request

# Late enough to know how the run goes, early enough to do something about it.
_LATE = 0.8


@dataclass(slots=True, kw_only=True)
class Pace:
    """The clock of one run."""

    budget: Budget
    record: RunRecord
    needs: Mapping[str, tuple[str, ...]]
    started: float
    tell: Callable[[str], None]

    @classmethod
    def of(cls, request: Request, record: RunRecord, *, reused: Collection[str], tell: Callable[[str], None]) -> Pace:
        """Plan a run from the durations of earlier ones; `reused` names stages that will cost nothing."""
        needs = {stage.name: stage.needs for stage in request.plan.running()}
        known = durations(request.root)
        if request.store is not None and not needs.keys() <= known.keys() | set(reused):
            known = {**request.store.durations(), **known}
        expected = {name: 0.0 if name in reused else seconds for name, seconds in known.items() if name in needs}
        expected |= dict.fromkeys(reused, 0.0)
        for name, seconds in expected.items():
            record.stages[name].expected = seconds
        minutes = float(request.plan.budget_minutes) if request.budget is None else request.budget
        weights = weights_of(expected, needs)
        budget = Budget(minutes=minutes, expected=expected, weights=weights, slots=request.config.run.concurrency)
        pace = cls(budget=budget, record=record, needs=needs, started=request.started, tell=tell)
        forecast = budget.forecast(record.stages.values(), needs, pace.now())
        record.budget = {"minutes": minutes, "expected": round(forecast.seconds, 3), "unknown": list(forecast.unknown)}
        return pace

    def now(self) -> float:
        """Return how long the run has been going on, in seconds."""
        return time.monotonic() - self.started

    def check(self) -> None:
        """Say once that the budget is at risk, when it is."""
        if "risk" in self.record.budget:
            return
        forecast = self.budget.forecast(self.record.stages.values(), self.needs, self.now())
        if risk := self.budget.risk(forecast, self.now()):
            self.record.budget["risk"] = risk
            self.record.write()
            self.tell(risk)

    async def watch(self, exceeded: Callable[[], None]) -> None:
        """Wait until the budget is exceeded, and call `exceeded` then; returns at once when there is none."""
        if not self.budget.minutes:
            return
        self.check()
        await self._until(self.budget.seconds * _LATE)
        self._late()
        await self._until(self.budget.seconds)
        self.record.budget["spent"] = spent(self.record.stages.values(), self.now())
        exceeded()

    def _late(self) -> None:
        """Say what is still to do when most of the time is gone, if nothing was said before."""
        self.check()
        if "risk" in self.record.budget:
            return
        left = [entry.name for entry in self.record.stages.values() if entry.status in {"waiting", "running"}]
        risk = f"{_LATE * 100:.0f} % of the budget of {self.budget.minutes:g} min are gone; still to do: {', '.join(left)}"
        self.record.budget["risk"] = risk
        self.tell(risk)

    async def _until(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds - self.now()))
