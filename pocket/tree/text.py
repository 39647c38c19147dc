"""Replacing text in a file, with the refusals that Dagger gives."""

from __future__ import annotations

from pocket.errors import TreeError


def replaced(text: str, search: str, replacement: str, *, every: bool, first_from: int | None = None) -> str:
    """Replace the only occurrence, every one, or the first one at or after line `first_from` (counted from 1).

    Raises:
        TreeError: there is none, or more than one and it was not said which.
    """
    if not search:
        raise TreeError("search string must not be empty")
    if first_from is not None:
        offset = sum(len(line) for line in text.splitlines(keepends=True)[: max(first_from - 1, 0)])
        at = text.find(search, offset)
        if at < 0:
            raise TreeError("search string not found")
        return text[:at] + replacement + text[at + len(search) :]
    count = text.count(search)
    if count == 0:
        raise TreeError("search string not found")
    if count > 1 and not every:
        raise TreeError(f"search string found multiple times: {', '.join(_places(text, search))}")
    return text.replace(search, replacement)


def _places(text: str, search: str) -> list[str]:
    found, at = [], text.find(search)
    while at >= 0:
        column = at - (text.rfind("\n", 0, at) + 1)
        found.append(f"line {text.count(chr(10), 0, at) + 1} ({column}-{column + len(search)})")
        at = text.find(search, at + len(search))
    return found
