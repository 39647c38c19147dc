"""Exit codes: the one table of the program (docs/reference.md shows it), and which one counts when several hold."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SIGNALLED = 128
# Outside the table, like sysexits.h's EX_SOFTWARE: never the verdict on a subject.
BUG = 70


class Exit(IntEnum):
    """How a run ended; a run ended by signal n exits with 128 + n, which is not in this table."""

    PASSED = 0
    FAILED = 1
    USAGE = 2
    BLOCKED = 3
    INCONCLUSIVE = 4
    INFRA = 5
    BUDGET = 6


# Most telling first: a usage error explains everything after it, a failed stage explains why a gate had nothing to judge.
_ORDER = (Exit.USAGE, Exit.FAILED, Exit.BLOCKED, Exit.INFRA, Exit.INCONCLUSIVE, Exit.BUDGET)


def worst(codes: Iterable[int]) -> int:
    """Return the code that counts: 128+n, then a bug, then 2, 1, 3, 5, 4, 6; 0 when there is none of them."""
    held = [int(code) for code in codes if code]
    signals = [code for code in held if code > SIGNALLED]
    if signals:
        return max(signals)
    if BUG in held:
        return BUG
    return next((int(code) for code in _ORDER if code in held), 0)
