"""Tries a stage again when infrastructure failed it, a little later each time, and lets everybody see that it did."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from ci.failures import classify
from ci.record import Attempt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ci.errors import WeighbridgeError
    from ci.events import Reporter
    from ci.record import StageEntry
    from ci.terms import Terms


async def persist(once: Callable[[], Awaitable[None]], entry: StageEntry, terms: Terms, reporter: Reporter) -> None:
    """Call `once` until it succeeds, or fails in a way that trying again does not mend.

    Raises:
        Exception: whatever the last attempt raised.

    """
    for number in range(1, terms.attempts + 1):
        begun = time.monotonic()
        try:
            await once()
        except Exception as error:
            problem = classify(error)
            pause = terms.again_in(problem, number)
            if pause is None:
                raise
            entry.attempts.append(_attempt(number, time.monotonic() - begun, problem, pause))
            entry.status = "waiting"
            again = f"attempt {number} of {terms.attempts} failed, again in {pause:.1f} s: {problem.message.splitlines()[0]}"
            reporter.noted(entry, again)
            await anyio.sleep(pause)
        else:
            return


def _attempt(number: int, seconds: float, problem: WeighbridgeError, pause: float) -> Attempt:
    return Attempt(number=number, seconds=round(seconds, 3), message=str(problem), hint=problem.hint, again_in=round(pause, 3))
