"""Owners by name and number, as the files of a snapshot resolve them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from inprocess import OWN_TIER

from pocket.errors import TreeError
from pocket.store import Entry, Snapshot, Store
from pocket.tree.owners import resolve_owner

PASSWD = b"root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:\nbroken\nalso:x:no:1::\ntwin:x:1000:9::/:\n\xff:x:5:6::/:\n"
GROUP = b"root:x:0:\nstaff:x:50:app\nbroken:x\n"


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Snapshot]:
    store = Store.open(tmp_path / "cache", tier=OWN_TIER)
    b = store.layer_builder()
    b.write("etc/passwd", PASSWD, Entry("f", 0o644))
    b.write("etc/group", GROUP, Entry("f", 0o644))
    yield Snapshot((b.finish(),), "users")
    store.close()


@pytest.mark.parametrize(
    ("owner", "ids"),
    [
        ("app", (1000, 1001)), ("root", (0, 0)), ("app:staff", (1000, 50)), ("1000", (1000, 1001)), ("7", (7, 7)),
        ("7:8", (7, 8)), ("app:8", (1000, 8)), ("7:staff", (7, 50)), ("4294967294:0", (4294967294, 0)),
    ],
)  # fmt: skip
def test_known_owners(users: Snapshot, owner: str, ids: tuple[int, int]) -> None:
    assert resolve_owner(users, owner) == ids


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ("ghost", "no such user: ghost"), ("app:ghost", "no such group: ghost"), ("also", "no such user: also"), ("", "no such user: "),
        ("4294967295", "out of range"), ("0:99999999999", "out of range"), ("-1", "no such user: -1"),
    ],
)  # fmt: skip
def test_unknown_owners(users: Snapshot, owner: str, message: str) -> None:
    with pytest.raises(TreeError, match=message):
        resolve_owner(users, owner)


def test_without_files_only_numbers_are_known() -> None:
    assert resolve_owner(None, "1:2") == (1, 2)
    assert resolve_owner(None, "3") == (3, 3)
    assert resolve_owner(Snapshot(), "3") == (3, 3)
    for owner in ("root", "0:root"):
        with pytest.raises(TreeError, match="no such"):
            resolve_owner(None, owner)
