"""Durations as Go reads and writes them: `1h`, `1m30s`, `1.5s`, `-250ms`; here they are whole nanoseconds."""

from __future__ import annotations

import re
from decimal import Decimal

from pocket.errors import TreeError

_UNITS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "µs": 1000, "μs": 1000, "ns": 1}
_PART = r"(\d+\.?\d*|\.\d+)(h|ms|us|µs|μs|ns|m|s)"
_DURATION = re.compile(f"[-+]?(?:0|(?:{_PART})+)", re.ASCII)


def nanoseconds(text: str) -> int:
    """Read a duration; "" is 0.

    Raises:
        TreeError: it is none.
    """
    if not text:
        return 0
    if not _DURATION.fullmatch(text):
        raise TreeError(f'time: invalid duration "{text}"')
    total = sum(int(Decimal(number) * _UNITS[unit]) for number, unit in re.findall(_PART, text))
    return -total if text.startswith("-") else total


def shown(value: int) -> str:
    """Write a duration of so many nanoseconds: hours, minutes and seconds from one second on, one unit below."""
    sign, value = ("-", -value) if value < 0 else ("", value)
    if value < _UNITS["s"]:
        unit = next((u for u in ("ms", "µs", "ns") if value >= _UNITS[u]), "s")
        return f"{sign}{_decimal(value, _UNITS[unit])}{unit}"
    minutes, rest = divmod(value, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, _UNITS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else f"{sign}{text}"


def _decimal(value: int, unit: int) -> str:
    """Write a fraction without an exponent or zeros at its end."""
    return f"{Decimal(value) / unit:f}" if value % unit else str(value // unit)
