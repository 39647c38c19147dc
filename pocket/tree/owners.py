"""Owners by name: `user[:group]` as the passwd and group files of a snapshot resolve it."""

from __future__ import annotations

from collections.abc import Iterator

from pocket.errors import TreeError
from pocket.store.layer import Snapshot
from pocket.tree.view import View

_LARGEST = 2**32 - 2


def resolve_owner(users: Snapshot | None, owner: str) -> tuple[int, int]:
    """Give (uid, gid) of `user`, `user:group`, names or numbers; without a group the user's own, or the user's number.

    Raises:
        TreeError: a name is unknown; without `users` only numbers are known.
    """
    user, colon, group = owner.partition(":")
    uid, own_gid = _user(users, user)
    if not colon:
        return uid, own_gid
    return uid, _group(users, group) if group else 0


def _user(users: Snapshot | None, name: str) -> tuple[int, int]:
    if name.isdigit():
        number = _checked(name)
        found = next((int(f[3]) for f in _rows(users, "etc/passwd", 4) if f[2] == name), None) if users else None
        return number, number if found is None else found
    for fields in _rows(users, "etc/passwd", 4):
        if fields[0] == name:
            return _checked(fields[2]), _checked(fields[3])
    raise TreeError(f"find uid: no such user: {name}")


def _group(users: Snapshot | None, name: str) -> int:
    if name.isdigit():
        return _checked(name)
    for fields in _rows(users, "etc/group", 3):
        if fields[0] == name:
            return _checked(fields[2])
    raise TreeError(f"find gid: no such group: {name}")


def _rows(users: Snapshot | None, path: str, least: int) -> Iterator[list[str]]:
    if users is None:
        return
    view = View(users)
    node = view.lookup(path)
    if node is None or node.entry.kind != "f":
        return
    for line in view.read(node).decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":")
        if len(fields) >= least and fields[2].isdigit():
            yield fields


def _checked(number: str) -> int:
    value = int(number)
    if value > _LARGEST:
        raise TreeError(f"the id {number} is out of range")
    return value
