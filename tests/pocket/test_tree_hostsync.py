"""Host directories: what comes in, what a change costs, and when files are read again."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocket.errors import TreeError
from pocket.store import Entry, Snapshot, Store
from pocket.tree import copier, hostsync
from pocket.tree.digest import content_key
from pocket.tree.hoststate import State
from pocket.tree.hostsync import sync, sync_file
from pocket.tree.view import View

TIER = "root" if os.geteuid() == 0 else "single-uid"
OLD = 1_600_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with_store = Store.open(tmp_path / "cache", tier=TIER)
    yield with_store
    with_store.close()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    place = tmp_path / "host"
    for name, text in {"a.py": "a", "n/b.py": "b", "n/deep/c": "c", "x.sh": "#!"}.items():
        write(place / name, text)
    (place / "x.sh").chmod(0o755)
    (place / "link").symlink_to("x.sh")
    (place / "n/dangling").symlink_to("/no/such")
    (place / "empty").mkdir(mode=0o700)
    return place


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (OLD, OLD))


def paths(snapshot: Snapshot) -> list[str]:
    return [n.path + ("/" if n.is_dir else "") for n in View(snapshot).walk()]


def settled(store: Store, host: Path, **options: object) -> Snapshot:
    """Sync until nothing is too fresh to be trusted."""
    snapshot = sync(store, host, **options)  # type: ignore[arg-type]
    for place in (store.root / "host").iterdir():
        while any(k.print == "" for k in State.load(place).folders.values()):
            snapshot = sync(store, host, **options)  # type: ignore[arg-type]
    return snapshot


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every file that is read in this process."""
    seen: list[str] = []
    copy = copier.copy

    def noted(source: str, dest: str, **options: bool) -> str:
        seen.append(Path(source).name)
        return copy(source, dest, **options)

    monkeypatch.setattr(copier, "copy", noted)
    return seen


def test_what_comes_in(store: Store, host: Path) -> None:
    (host / "n/pipe.sock").touch()
    os.mkfifo(host / "pipe")
    snapshot = sync(store, host)
    assert paths(snapshot) == ["a.py", "empty/", "link", "n/", "n/b.py", "n/dangling", "n/deep/", "n/deep/c", "n/pipe.sock", "x.sh"]
    view = View(snapshot)
    assert view.need("x.sh").entry._replace(target="") == Entry("f", 0o755, 0, 0, 2, OLD)
    assert view.need("n/dangling", follow=False).entry.target == "/no/such"
    assert view.need("empty").entry.mode == 0o700
    assert view.read(view.file("link")) == b"#!"
    assert int(view.real(view.need("a.py")).stat().st_mtime) == OLD
    assert content_key(view) == snapshot.key


def test_the_same_again_reads_nothing_and_is_the_same(store: Store, host: Path, reads: list[str]) -> None:
    first = settled(store, host)
    reads.clear()
    assert sync(store, host) == first
    assert reads == []


def test_one_changed_file_is_one_small_layer(store: Store, host: Path, reads: list[str]) -> None:
    first = settled(store, host)
    reads.clear()
    write(host / "n/b.py", "changed")
    second = sync(store, host)
    assert reads == ["b.py"]
    assert second.layers[:-1] == first.layers
    assert list(second.layers[-1].index()) == ["", "n", "n/b.py"]
    assert content_key(View(second)) == second.key != first.key


def test_a_new_time_with_the_same_content_is_the_same_snapshot(store: Store, host: Path) -> None:
    first = settled(store, host)
    os.utime(host / "a.py", (5, 5))
    assert sync(store, host) == first
    os.utime(host / "n", (5, 5))
    assert sync(store, host) == first


def test_changing_back_gives_the_first_snapshot(store: Store, host: Path) -> None:
    first = settled(store, host)
    write(host / "a.py", "other")
    second = settled(store, host)
    write(host / "a.py", "a")
    assert sync(store, host) == first != second


def test_the_same_content_elsewhere_is_the_same_snapshot(store: Store, host: Path, tmp_path: Path) -> None:
    first = sync(store, host)
    host.rename(tmp_path / "moved")
    assert sync(store, tmp_path / "moved") == first


def change(what: str, h: Path) -> None:
    """Do to a directory what the words say."""
    match what:
        case "file removed":
            (h / "a.py").unlink()
        case "directory removed":
            (h / "n/deep/c").unlink()
            (h / "n/deep").rmdir()
        case "empty directory removed":
            (h / "empty").rmdir()
        case "file added in new directories":
            write(h / "p/q/r", "new")
        case "mode changed":
            (h / "a.py").chmod(0o600)
        case "directory mode changed":
            (h / "n/deep").chmod(0o711)
        case "root mode changed":
            h.chmod(0o711)
        case "link changed":
            (h / "link").unlink()
            (h / "link").symlink_to("a.py")
        case "file becomes directory":
            (h / "a.py").unlink()
            write(h / "a.py/in", "1")
        case "directory becomes file":
            (h / "empty").rmdir()
            write(h / "empty", "1")
        case "full directory becomes link":
            (h / "n").rename(h.parent / "n")
            (h / "n").symlink_to("x.sh")
        case "renamed":
            (h / "n").rename(h / "m")
        case "same size, same second":
            write(h / "n/b.py", "B")
        case _:
            raise AssertionError(what)


CHANGES = [
    "file removed",
    "directory removed",
    "empty directory removed",
    "file added in new directories",
    "mode changed",
    "directory mode changed",
    "root mode changed",
    "link changed",
    "file becomes directory",
    "directory becomes file",
    "full directory becomes link",
    "renamed",
    "same size, same second",
]


@pytest.mark.parametrize("what", CHANGES)
def test_every_kind_of_change(store: Store, host: Path, tmp_path: Path, what: str) -> None:
    settled(store, host)
    change(what, host)
    snapshot = sync(store, host)
    fresh = Store.open(tmp_path / "other", tier=TIER)
    assert (snapshot.key, paths(snapshot)) == ((clean := sync(fresh, host)).key, paths(clean))
    assert content_key(View(snapshot)) == snapshot.key
    fresh.close()


def test_a_file_too_fresh_to_trust_is_read_again(store: Store, host: Path, reads: list[str]) -> None:
    """Git's racy rule: a write within the same tick would leave size and times as they were."""
    settled(store, host)
    now = time.time() + 3600  # a clock that will not have passed when it is looked at again
    write(host / "a.py", "1")
    os.utime(host / "a.py", (now, now))
    sync(store, host)
    reads.clear()
    sync(store, host)
    assert reads == ["a.py"]


def test_the_stack_stays_short(store: Store, host: Path) -> None:
    snapshot = sync(store, host)
    for n in range(30):
        write(host / f"f{n}", str(n))
        snapshot = sync(store, host)
        assert len(snapshot.layers) <= 8
    assert content_key(View(snapshot)) == snapshot.key


def test_filters(store: Store, host: Path) -> None:
    assert paths(sync(store, host, include=["**/*.py"])) == ["a.py", "n/", "n/b.py"]
    assert paths(sync(store, host, exclude=["**/*.py", "n/deep", "empty"])) == ["link", "n/", "n/dangling", "x.sh"]
    assert paths(sync(store, host, include=["n"], exclude=["n/b.py"])) == ["n/", "n/dangling", "n/deep/", "n/deep/c"]
    assert paths(sync(store, host, exclude=["*", "!n/deep"])) == ["n/", "n/deep/", "n/deep/c"]
    write(host / "n/z.py", "z")
    assert paths(sync(store, host, include=["**/*.py"])) == ["a.py", "n/", "n/b.py", "n/z.py"]


def test_gitignore_counts_only_in_a_repository(store: Store, host: Path) -> None:
    write(host / ".gitignore", "*.sh\n/n/deep/\n")
    write(host / "n/.gitignore", "b.py\n")
    assert "x.sh" in paths(sync(store, host, gitignore=True))
    (host / ".git").mkdir()
    seen = paths(sync(store, host, gitignore=True, exclude=[".git"]))
    assert seen == [".gitignore", "a.py", "empty/", "link", "n/", "n/.gitignore", "n/dangling"]
    assert paths(sync(store, host / "n", gitignore=True)) == [".gitignore", "dangling"]


def test_many_files_are_copied_by_workers(store: Store, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostsync, "_WORKERS_FROM", 2)
    write(host / "é\udcff", "odd")
    (host / "big").write_bytes(b"x" * 300_000)
    (host / "set").write_text("1")
    (host / "set").chmod(0o4711)
    snapshot = sync(store, host)
    view = View(snapshot)
    assert view.read(view.need("big")) == b"x" * 300_000
    assert view.read(view.need("é\udcff")) == b"odd"
    assert view.need("set").entry.mode == view.real(view.need("set")).stat().st_mode & 0o7777 == 0o4711
    assert content_key(view) == snapshot.key


def test_very_many_files_are_taken_in_elsewhere(store: Store, host: Path) -> None:
    here = sync(store, host / "n")
    (host / "n").rename(host / "m")
    there = sync(store, host / "m", limit=1)
    assert there == here
    other = sync(store, host, limit=1)
    assert "m/deep/c" in paths(other)
    assert sync(store, host, limit=1) == other


def test_errors_of_a_child_are_the_same_errors(store: Store, host: Path) -> None:
    for n in range(3):
        write(host / str(n), "1")
    host.chmod(0o755)
    (store.root / "layers").rename(store.root / "gone")
    (store.root / "layers").write_text("")
    with pytest.raises(Exception, match="cannot use the cache directory"):
        sync(store, host, limit=1)
    (store.root / "layers").unlink()
    (store.root / "gone").rename(store.root / "layers")


def test_missing_and_wrong_kinds(store: Store, host: Path) -> None:
    with pytest.raises(TreeError, match="host/absent: no such file or directory"):
        sync(store, host / "absent")
    with pytest.raises(TreeError, match="is a file, not a directory"):
        sync(store, host / "a.py")
    with pytest.raises(TreeError, match="absent: no such file or directory"):
        sync_file(store, host / "absent")
    with pytest.raises(TreeError, match="is a directory, not a file"):
        sync_file(store, host / "n")


def test_a_damaged_state_is_as_none(store: Store, host: Path) -> None:
    first = settled(store, host)
    (place,) = (store.root / "host").iterdir()
    for damage in (b"", b"\0" * 500, place.read_bytes()[:-20], place.read_bytes().replace(b'"format": 1', b'"format": 0')):
        place.write_bytes(damage)
        assert sync(store, host) == first


def test_a_state_whose_layers_are_gone_is_as_none(store: Store, host: Path, tmp_path: Path) -> None:
    key = settled(store, host).key
    store.close()
    other = Store.open(tmp_path / "cache", tier=TIER)
    other.prune()
    again = sync(other, host)
    assert again.key == key == content_key(View(again))
    other.close()


def test_one_file(store: Store, host: Path, reads: list[str]) -> None:
    first = sync_file(store, host / "x.sh")
    assert paths(first) == ["x.sh"]
    assert sync_file(store, host / "link").layers != first.layers
    assert paths(sync_file(store, host / "link")) == ["link"]
    write(host / "x.sh", "#!!")
    os.utime(host / "x.sh", (OLD, OLD))
    changed = sync_file(store, host / "x.sh")
    assert changed.key != first.key
    while reads:  # until its times are old enough to be trusted
        reads.clear()
        assert sync_file(store, host / "x.sh").key == changed.key


def test_a_file_that_vanishes_in_between_is_left_out(store: Store, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = copier.copy

    def late(source: str, dest: str, **options: bool) -> str:
        if source.endswith("a.py"):
            Path(source).unlink()
        return copy(source, dest, **options)

    monkeypatch.setattr(copier, "copy", late)
    assert "a.py" not in paths(sync(store, host))
