"""Where a cache may lie: named by the environment, read-only, full, and with modes that refuse to go."""

import os
import subprocess
from pathlib import Path

import pytest
from forked import folder, in_tier

from pocket.errors import StoreError
from pocket.store import Snapshot, Store, default_root, disk
from pocket.tree import ops
from pocket.tree.view import View

TIER = "root" if os.geteuid() == 0 else "single-uid"


def test_the_environment_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", "/w")
    assert default_root() == Path("/w/pocket")
    monkeypatch.setenv("POCKET_CACHE", "/p")
    assert default_root() == Path("/p")
    monkeypatch.delenv("POCKET_CACHE")
    monkeypatch.delenv("WEIGHBRIDGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "weighbridge/pocket"


def test_a_cache_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot use the cache directory"):
        Store.open(tmp_path / "file", tier=TIER)


def test_a_read_only_cache_says_what_to_do() -> None:
    def body() -> tuple[str, str]:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", where], check=True)
        try:
            Store.open(Path(where) / "c", tier="root")
        except StoreError as e:
            return str(e), e.hint
        return "", ""

    with folder("single-uid") as where:
        message, hint = in_tier("single-uid", body)
    assert "read-only file system" in message
    assert "WEIGHBRIDGE_CACHE" in hint


def test_a_full_cache_says_so_and_stays_usable() -> None:
    def body() -> tuple[str, str, bytes]:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", where], check=True)
        store = Store.open(Path(where) / "c", tier="single-uid")
        kept = ops.write_file(store, Snapshot(), "small", b"kept")
        try:
            ops.write_file(store, Snapshot(), "big", b"x" * 20_000_000)
        except StoreError as e:
            message, hint = str(e), e.hint
        else:
            message = hint = ""
        store.close()
        store = Store.open(Path(where) / "c", tier="single-uid")
        more = ops.write_file(store, Snapshot(tuple(kept)), "after", b"x" * 1_000_000)
        view = View(Snapshot((*kept, *more)))
        return message, hint, view.read(view.file("small"))

    with folder("single-uid") as where:
        message, hint, data = in_tier("single-uid", body)
    assert "no space left" in message
    assert "prune" in hint
    assert data == b"kept"


# --- removal
def test_what_is_discarded_takes_no_room_though_somebody_holds_it(tmp_path: Path) -> None:
    """A dying container holds the files of its upper directory for a moment; what another name leads to is left alone."""
    place = tmp_path / "t"
    (place / "a").mkdir(parents=True)
    for name in ("held", "linked", "dark"):
        (place / "a" / name).write_bytes(b"x" * 100_000)
    os.link(place / "a/linked", tmp_path / "kept")
    (place / "a/link").symlink_to(tmp_path / "kept")
    os.mkfifo(place / "a/pipe")
    (place / "a/dark").chmod(0)
    with (place / "a/held").open("rb") as held:
        disk.discard(place)
        assert os.fstat(held.fileno()).st_blocks == 0
    assert not place.exists()
    assert (tmp_path / "kept").read_bytes() == b"x" * 100_000


def test_a_tree_is_removed_whatever_its_modes(tmp_path: Path) -> None:
    def body() -> bool:
        place = Path(where) / "t"
        (place / "a/b").mkdir(parents=True)
        (place / "a/f").touch()
        (place / "l").symlink_to("/etc")
        (place / "a/b").chmod(0)
        (place / "a").chmod(0o400)
        os.setuid(os.getuid())
        disk.remove_tree(place)
        disk.remove_tree(place)
        return place.exists()

    with folder("single-uid") as where:
        assert in_tier("single-uid", body) is False
    (tmp_path / "f").touch()
    disk.remove_tree(tmp_path / "f")
    assert Path("/etc/passwd").exists()
