"""Writing to the host: what arrives, and that nothing is written outside the destination."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocket.errors import TreeError
from pocket.store import SCRATCH, Entry, Snapshot, Store
from pocket.tree.export import export_file, export_tree
from pocket.tree.view import View

TIER = "root" if os.geteuid() == 0 else "single-uid"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with_store = Store.open(tmp_path / "cache", tier=TIER)
    yield with_store
    with_store.close()


@pytest.fixture
def view(store: Store) -> View:
    b = store.layer_builder()
    b.mkdir("n", Entry("d", 0o750, mtime=9))
    b.write("n/new", b"n", Entry("f", 0o755, mtime=8))
    b.write("top", b"t" * 100_000, Entry("f", 0o4640, mtime=7))
    b.symlink("n/link", "/etc/passwd", Entry("l", 0o777, mtime=6))
    b.special("n/pipe", Entry("p", 0o600))
    b.special("n/null", Entry("c", 0o600, target="1:3"))
    return View(Snapshot((b.finish(),)))


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    place = tmp_path / "dest"
    place.mkdir()
    return place


def test_a_tree_merges_into_what_is_there(view: View, dest: Path) -> None:
    (dest / "old").write_text("o")
    (dest / "n").mkdir()
    (dest / "n/kept").touch()
    assert export_tree(view, "", str(dest)) == str(dest)
    assert sorted(str(p.relative_to(dest)) for p in dest.rglob("*")) == ["n", "n/kept", "n/link", "n/new", "n/pipe", "old", "top"]
    assert ((dest / "n/new").stat().st_mode & 0o7777, (dest / "top").stat().st_mode & 0o7777) == (0o755, 0o4640)
    assert (int((dest / "top").stat().st_mtime), int((dest / "n/link").lstat().st_mtime)) == (7, 6)
    assert (dest / "n").stat().st_mode & 0o777 == 0o750
    assert (dest / "n/link").readlink() == Path("/etc/passwd")


def test_wiping_first(view: View, dest: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").touch()
    (dest / "t/deep").mkdir(parents=True)
    (dest / "t/old").touch()
    (dest / "link").symlink_to(tmp_path / "outside")
    export_tree(view, "n", str(dest), wipe=True)
    assert sorted(p.name for p in dest.iterdir()) == ["link", "new", "pipe"]
    assert (tmp_path / "outside/precious").exists()


def test_symlinks_in_the_destination_are_replaced_not_followed(view: View, dest: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "victim").write_text("safe")
    (dest / "n").symlink_to(outside)
    (dest / "top").symlink_to(tmp_path / "victim")
    export_tree(view, "", str(dest))
    assert list(outside.iterdir()) == []
    assert (tmp_path / "victim").read_text() == "safe"
    assert not (dest / "n").is_symlink()
    assert (dest / "top").stat().st_size == 100_000


def test_things_of_another_kind_are_replaced(view: View, dest: Path) -> None:
    (dest / "n").write_text("a file")
    (dest / "top/full").mkdir(parents=True)
    export_tree(view, "", str(dest))
    assert (dest / "n/new").read_text() == "n"
    assert (dest / "top").is_file()


def test_a_destination_is_made_and_may_itself_be_a_link(view: View, tmp_path: Path, dest: Path) -> None:
    (tmp_path / "by").symlink_to(dest)
    assert export_tree(view, "n", str(tmp_path / "by/a/b")) == str(tmp_path / "by/a/b")
    assert (dest / "a/b/new").exists()


def test_one_file(view: View, dest: Path, tmp_path: Path) -> None:
    assert export_file(view, "n/new", str(dest / "made/out")) == str(dest / "made/out")
    assert ((dest / "made/out").read_text(), (dest / "made/out").stat().st_mode & 0o777) == ("n", 0o755)
    (tmp_path / "victim").write_text("safe")
    (dest / "l").symlink_to(tmp_path / "victim")
    export_file(view, "n/new", str(dest / "l"))
    assert (tmp_path / "victim").read_text() == "safe"
    with pytest.raises(TreeError, match=f'"{dest}" is a directory; must be a file path unless allowParentDirPath is set'):
        export_file(view, "top", str(dest))
    assert export_file(view, "top", str(dest), allow_parent_dir_path=True) == str(dest)
    assert (dest / "top").exists()
    with pytest.raises(TreeError, match="path n is a directory, not a file"):
        export_file(view, "n", str(dest / "x"))


def test_a_destination_that_cannot_be_written(view: View, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TreeError, match="cannot export to"):
        export_tree(view, "", str(tmp_path / "file"))
    with pytest.raises(TreeError, match="cannot export to"):
        export_file(view, "top", str(tmp_path / "file/x"))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".pocket")] == []


# --- the view's own resolution of links
def test_links_are_resolved_inside_the_view(store: Store) -> None:
    b = store.layer_builder()
    b.write("usr/bin/x", b"1", Entry("f", 0o755))
    for name, target in {
        "bin": "usr/bin",
        "abs": "/usr/bin/x",
        "up": "../../../usr",
        "chain": "bin/../bin",
        "loop": "loop",
        "gone": "no",
    }.items():
        b.symlink(name, target)
    view = View(Snapshot((b.finish(),)))
    for path in ("bin/x", "/abs", "up/bin/x", "chain/x", "usr/../bin/./x", "../../usr/bin/x"):
        node = view.lookup(path)
        assert node is not None
        assert node.path == "usr/bin/x"
    assert [view.lookup(p) for p in ("gone", "gone/x", "usr/bin/x/y", "nope")] == [None] * 4
    link = view.lookup("bin", follow=False)
    assert link is not None
    assert (link.name, link.entry.kind) == ("bin", "l")
    with pytest.raises(TreeError, match="too many levels"):
        view.lookup("loop")
    with pytest.raises(TreeError, match="NUL"):
        view.lookup("a\0b")
    assert view.lookup("") == view.root() == view.lookup("/..")
    assert View(SCRATCH).root().is_dir
