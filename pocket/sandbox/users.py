"""Who a command runs as: the container's own /etc/passwd and /etc/group, read inside its root, as runc reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pocket.sandbox.errors import StepError

_ID_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A resolved user: numeric ids, supplementary groups (with the primary one), home directory."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)
    home: str = "/root"

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> User:
        """Make a user from the values of its fields."""
        uid, gid, groups, home = values
        return cls(uid=uid, gid=gid, groups=groups, home=home)


def resolve(wanted: str, etc: str = "/etc") -> User:
    """Return the user that `wanted` (name, uid, uid:gid, name:group or "") names; StepError when there is none."""
    passwd, group = f"{etc}/passwd", f"{etc}/group"
    who, _, with_group = wanted.partition(":")
    entry = next((e for e in _entries(passwd, 7) if who and who in {e[0], e[2]}), None)
    if entry is None and not who:
        entry = next((e for e in _entries(passwd, 7) if e[2] == "0"), None)
    if entry is not None:
        name, uid, gid, home = entry[0], int(entry[2]), int(entry[3]), entry[5] or "/"
    elif who.isdigit() and int(who) <= _ID_LIMIT:
        name, uid, gid, home = "", int(who), 0, "/"
    elif not who:
        name, uid, gid, home = "", 0, 0, "/root"
    elif who.lstrip("-").isdigit():
        raise StepError(f"get user: uids and gids must be in range 0-{_ID_LIMIT}")
    else:
        raise StepError(f"get user: unable to find user {who}: no matching entries in passwd file")
    if with_group:
        gid = _group(with_group, group)
        return User(uid=uid, gid=gid, groups=(gid,), home=home)
    listed = {int(e[2]) for e in _entries(group, 4) if name and who and name in e[3].split(",")}
    return User(uid=uid, gid=gid, groups=tuple(sorted({gid, *listed})), home=home)


def _group(wanted: str, path: str) -> int:
    for entry in _entries(path, 4):
        if wanted in {entry[0], entry[2]}:
            return int(entry[2])
    if wanted.isdigit() and int(wanted) <= _ID_LIMIT:
        return int(wanted)
    raise StepError(f"get user: unable to find group {wanted}: no matching entries in group file")


def _entries(path: str, width: int) -> list[list[str]]:
    """Return the well-formed lines of a colon-separated file; a missing or odd file has none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.rstrip("\n").split(":") for line in file]
    except OSError:
        return []
    return [row for row in rows if len(row) >= width and all(row[i].isdigit() for i in ((2, 3) if width == 7 else (2,)))]
