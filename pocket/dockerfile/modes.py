"""The modes of `--chmod`: octal, or symbolic as for chmod(1), applied to each file's own mode; there is no umask."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from pocket.dockerfile.parse import DockerfileError

if TYPE_CHECKING:
    from collections.abc import Callable

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_SPECIAL = {"u": 0o4000, "g": 0o2000}
_STICKY = 0o1000


@cache
def parse(text: str) -> Callable[[int, bool], int]:
    """Return what gives a new mode for (mode, whether it is a directory).

    Raises:
        DockerfileError: it is no mode.
    """
    if re.fullmatch(r"0*[0-7]{1,4}", text):
        number = int(text, 8)
        return lambda _old, _directory: number
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    found = [(m[1], _ACTION.findall(m[2])) for m in clauses if m]
    if len(found) < len(clauses):
        raise DockerfileError(0, f"invalid chmod value {text!r}")

    def apply(old: int, directory: bool) -> int:  # noqa: FBT001 - one of two values of a function that is data
        mode = old
        for who, actions in found:
            whom = "ugo" if not who or "a" in who else who
            for operator, what in actions:
                mode = _changed(mode, whom, operator, _bits(what, whom, mode, runs=directory or bool(old & 0o111)))
        return mode

    return apply


def _bits(what: str, whom: str, mode: int, *, runs: bool) -> int:
    """Return the bits that a clause is about."""
    if what in _SHIFT and what:
        each = mode >> _SHIFT[what] & 7
    else:
        each = sum({"r": 4, "w": 2, "x": 1}.get(c, 0) for c in set(what)) | (1 if "X" in what and runs else 0)
    bits = sum(each << _SHIFT[w] for w in set(whom))
    if "s" in what:
        bits |= sum(_SPECIAL.get(w, 0) for w in set(whom))
    return bits | (_STICKY if "t" in what else 0)


def _changed(mode: int, whom: str, operator: str, bits: int) -> int:
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    mine = sum(7 << _SHIFT[w] | _SPECIAL.get(w, 0) for w in set(whom))
    return mode & ~mine | bits
