"""Users are the container's own, read as runc reads them."""

from pathlib import Path

import pytest

from pocket.errors import PocketError
from pocket.sandbox.users import User, resolve

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001:app:/home/app:/bin/sh\nhomeless:x:7:7:::\nodd:x:seven:7::/:\n"
GROUP = "root:x:0:\nstaff:x:50:app,homeless\nwheel:x:10:root\napp:x:1001:\n"


@pytest.fixture
def etc(tmp_path: Path) -> str:
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUP)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "user"),
    [
        ("", User(uid=0, gid=0, groups=(0,), home="/root")),
        ("root", User(uid=0, gid=0, groups=(0, 10), home="/root")),
        ("app", User(uid=1000, gid=1001, groups=(50, 1001), home="/home/app")),
        ("1000", User(uid=1000, gid=1001, groups=(50, 1001), home="/home/app")),
        ("app:staff", User(uid=1000, gid=50, groups=(50,), home="/home/app")),
        ("1000:99", User(uid=1000, gid=99, groups=(99,), home="/home/app")),
        ("4711", User(uid=4711, gid=0, groups=(0,), home="/")),
        ("4711:staff", User(uid=4711, gid=50, groups=(50,), home="/")),
        ("homeless", User(uid=7, gid=7, groups=(7, 50), home="/")),
    ],
)
def test_known_users(etc: str, wanted: str, user: User) -> None:
    assert resolve(wanted, etc) == user


@pytest.mark.parametrize("wanted", ["nobody-here", "odd"])
def test_unknown_users(etc: str, wanted: str) -> None:
    with pytest.raises(PocketError, match=f"^get user: unable to find user {wanted}: no matching entries in passwd file$"):
        resolve(wanted, etc)


@pytest.mark.parametrize("wanted", ["-1", "2147483648", "99999999999"])
def test_numbers_that_are_no_users(etc: str, wanted: str) -> None:
    with pytest.raises(PocketError, match=r"^get user: uids and gids must be in range 0-2147483647$"):
        resolve(wanted, etc)


def test_unknown_group(etc: str) -> None:
    with pytest.raises(PocketError, match="unable to find group g: no matching entries in group file"):
        resolve("app:g", etc)


def test_an_image_without_users_has_root_and_numbers(tmp_path: Path) -> None:
    assert resolve("", str(tmp_path)) == User(uid=0, gid=0, groups=(0,), home="/root")
    assert resolve("5:6", str(tmp_path)) == User(uid=5, gid=6, groups=(6,), home="/")
