"""Questions about a tree: names, patterns, kinds, differences and lines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from inprocess import OWN_TIER

from pocket.errors import TreeError
from pocket.store import Entry, Snapshot, Store
from pocket.tree import query
from pocket.tree.view import View


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "cache", tier=OWN_TIER)
    yield opened
    opened.close()


def tree(store: Store, files: dict[str, str], links: dict[str, str] | None = None) -> View:
    """Make a tree of one layer."""
    b = store.layer_builder()
    for name, text in files.items():
        b.write(name, text.encode(), Entry("f", 0o640))
    for name, target in (links or {}).items():
        b.symlink(name, target)
    return View(Snapshot((b.finish(),), "tree"))


def test_entries(store: Store) -> None:
    v = tree(store, {"b": "", "a/c": "", "Z": ""}, {"l": "a"})
    assert query.entries(v, "") == ["Z", "a/", "b", "l"]
    assert query.entries(v, "l") == ["c"]
    with pytest.raises(TreeError, match="shown: no such file"):
        query.entries(v, "no", shown="shown")
    with pytest.raises(TreeError, match="path b is a file, not a directory"):
        query.entries(v, "b")


@pytest.mark.parametrize(
    ("root", "pattern", "found"),
    [
        ("", "*.py", ["a.py"]), ("", "**/*.py", ["a.py", "d/b.py", "d/e/c.py"]), ("", "d/*", ["d/b.py", "d/e/"]),
        ("d", "**", ["b.py", "e/", "e/c.py"]),
        ("d", "e/?.py", ["e/c.py"]), ("", "[^a]", ["d/"]), ("", "nope", []), ("", "/a.py", []), ("", " ./a.py", ["a.py"]),
        ("", "!a.py", []), ("", "**.py", ["a.py", "d/b.py", "d/e/c.py"]), ("", "**/e", ["d/e/"]),
    ],
)  # fmt: skip
def test_glob(store: Store, root: str, pattern: str, found: list[str]) -> None:
    v = tree(store, {"a.py": "", "d/b.py": "", "d/e/c.py": ""})
    assert query.glob(v, root, pattern) == found


def test_entries_are_sorted_by_name_and_the_slash_does_not_count(store: Store) -> None:
    v = tree(store, {"a/x": "", "a-b": "", "a.b": ""})
    assert query.entries(v, "") == ["a/", "a-b", "a.b"]
    assert query.glob(v, "", "**") == ["a/", "a/x", "a-b", "a.b"]


@pytest.mark.parametrize(("pattern", "message"), [("", "empty pattern"), (" ", "empty pattern"), ("[", "syntax error in pattern")])
def test_a_glob_that_is_none(store: Store, pattern: str, message: str) -> None:
    with pytest.raises(TreeError, match=f"failed to create glob pattern matcher: {message}"):
        query.glob(tree(store, {"a": ""}), "", pattern)


def test_existence_and_stat(store: Store) -> None:
    v = tree(store, {"d/f": "123"}, {"l": "d/f", "dangling": "no", "dl": "d"})
    assert [query.exists(v, p) for p in ("d", "d/f", "l", "dangling", "no", "dl/f")] == [True, True, True, False, False, True]
    assert query.exists(v, "dangling", follow=False)
    kinds = [query.exists(v, "l", k) for k in ("REGULAR_TYPE", "DIRECTORY_TYPE", "SYMLINK_TYPE", "NO_TYPE")]
    assert kinds == [True, False, True, False]
    assert query.stat(v, "l") == query.Stat("f", 3, 0o640, "REGULAR")
    link = query.stat(v, "l", follow=False)
    assert link is not None
    assert link.file_type == "SYMLINK"
    assert query.stat(v, "no") is None


def test_find_up(store: Store) -> None:
    v = tree(store, {"m": "", "a/m": "", "a/b/c/x": "", "r/a/b/y": "", "r/m": ""})
    assert query.find_up(v, "", "m", "a/b/c") == "a/m"
    assert query.find_up(v, "", "m", "/a/b") == "/a/m"
    assert query.find_up(v, "", "m", "./nowhere/at/all") == "m"
    for start, message in (("a/m", "path a/m is a file"), ("../..", "outside parent")):
        with pytest.raises(TreeError, match=message):
            query.find_up(v, "", "m", start)
    assert query.find_up(v, "r", "m", "a/b") == "m"
    assert query.find_up(v, "", "none", "a") is None


def test_changes(store: Store) -> None:
    before = tree(store, {"same": "1", "mod": "1", "gone": "", "d/1": "", "d/2": "", "k/old": ""}, {"l": "a"})
    after = tree(store, {"same": "1", "mod": "2", "new/x": "", "k/new": ""}, {"l": "b"})
    assert query.changes(before, "", after, "") == query.Changes(("k/new", "new/", "new/x"), ("l", "mod"), ("d/", "gone", "k/old"))
    assert query.changes(before, "k", after, "k") == query.Changes(("new",), (), ("old",))
    assert query.changes(after, "", after, "") == query.Changes((), (), ())


def test_search_gives_lines_offsets_and_places(store: Store) -> None:
    v = tree(store, {"a.txt": "one\ntwo two\nthree", "d/b.txt": "é two\n", "bin": "two\0two"})
    found = query.search(v, "", "two")
    assert found == [
        query.Match("a.txt", 2, 4, "two two\n", (("two", 0, 3), ("two", 4, 7))),
        query.Match("d/b.txt", 1, 0, "é two\n", (("two", 3, 6),)),
    ]
    assert [m.path for m in query.search(v, "d", "two")] == ["b.txt"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"pattern": "o.*t"}, ["a:1"]),
        ({"pattern": "o.t", "literal": True}, []),
        ({"pattern": "ONE", "insensitive": True}, ["a:1", "d/b:1", ".h/c:1"]),
        ({"pattern": "one", "paths": ["d"]}, ["d/b:1"]),
        ({"pattern": "one", "paths": ["./d/b"]}, ["d/b:1"]),
        ({"pattern": "one", "globs": ["b"]}, ["d/b:1"]),
        ({"pattern": "one", "globs": ["d/*"]}, ["d/b:1"]),
        ({"pattern": "one", "skip_hidden": True}, ["a:1", "d/b:1"]),
        ({"pattern": "one", "skip_ignored": True}, ["a:1", ".h/c:1"]),
        ({"pattern": "one", "limit": 1}, [".h/c:1"]),
        ({"pattern": "e", "files_only": True}, [".h/c:1", "a:1", "d/b:1"]),
        ({"pattern": "one.*three", "multiline": True, "dotall": True}, ["a:1"]),
        ({"pattern": "two\nthree", "multiline": True}, ["a:2"]),
        ({"pattern": "^two$"}, ["a:2"]),
    ],
)
def test_search_options(store: Store, options: dict[str, object], found: list[str]) -> None:
    v = tree(store, {"a": "one t\ntwo\nthree", "d/b": "one\n", ".h/c": "one\n", ".gitignore": "d/\n"})
    matches = query.search(v, "", **options)  # type: ignore[arg-type]  # the options vary
    assert sorted(f"{m.path}:{m.line_number}" for m in matches) == sorted(found)


def test_a_pattern_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(TreeError, match="invalid search pattern"):
        query.search(tree(store, {"a": ""}), "", "(")
