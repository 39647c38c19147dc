"""Replacing text in a file, with the refusals that Dagger gives."""

from __future__ import annotations

from pocket.errors import TreeError


def replaced(text: str, search: str, replacement: str, *, every: bool, first_from: int | None = None) -> str:
    """Replace the only occurrence, every one, or the first one, the last two at or after line `first_from` (counted from 1).

    Raises:
        TreeError: not every one is meant, and there is none, or more than one and it was not said which.
    """
    offset = 0
    for _ in range((first_from or 1) - 1):
        offset = text.find("\n", offset) + 1 or len(text)
    before, rest = text[:offset], text[offset:]
    if every:
        return before + rest.replace(search, replacement)
    if not search:
        raise TreeError("search string must not be empty")
    if search not in rest:
        raise TreeError("search string not found")
    if first_from is None and text.count(search) > 1:
        raise TreeError(f"search string found multiple times: {', '.join(_places(text, search))}")
    return before + rest.replace(search, replacement, 1)


def _places(text: str, search: str) -> list[str]:
    found, at = [], text.find(search)
    while at >= 0:
        column = at - (text.rfind("\n", 0, at) + 1)
        found.append(f"line {text.count(chr(10), 0, at) + 1} ({column}-{column + len(search)})")
        at = text.find(search, at + len(search))
    return found
