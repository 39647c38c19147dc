"""Colours: only on a terminal, or where they are asked for (FORCE_COLOR); never against NO_COLOR (no-color.org)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODES = {"passed": "32", "reused": "36", "failed": "1;31", "cancelled": "33", "skipped": "2", "waiting": "2", "running": "1"}


def wanted(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether to colour what goes to a stream."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (stream.isatty() and environ.get("TERM") != "dumb")


def paint(line: str, status: str, *, on: bool) -> str:
    """Colour the mark and the name of a stage's line."""
    if not on or len(line) < 3:
        return line
    mark, _, rest = line[1:].partition(" ")
    name, space, said = rest.partition(" ")
    return f" \x1b[{_CODES[status]}m{mark} {name}\x1b[0m{space}{said}"
