"""Entries, paths and the index file."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket.errors import StoreError, TreeError
from pocket.store import index as ix
from pocket.store.index import Entry

NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=()), min_size=1, max_size=8).filter(
    lambda n: n not in (".", "..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
ENTRIES = st.builds(
    Entry,
    kind=st.sampled_from("dflcbpw"),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    size=st.integers(0, 2**60),
    mtime=st.integers(-(2**40), 2**40),
    target=st.text(),
    opaque=st.booleans(),
    xattrs=st.lists(st.tuples(st.text(string.ascii_letters, min_size=1), st.just("AA==")), max_size=2).map(tuple),
)


@given(st.dictionaries(PATHS, ENTRIES, max_size=12))
def test_an_index_survives_the_disk(tmp_path_factory: pytest.TempPathFactory, index: ix.Index) -> None:
    path = tmp_path_factory.getbasetemp() / "index.json"
    index[""] = Entry("d", 0o755)
    digest = ix.write(path, index)
    assert digest == ix.digest(index)
    assert ix.load(path) == index
    found = ix.IndexFile(path)
    assert {p: found.get(p) for p in index} == index
    assert found.get("no/such/path") == index.get("no/such/path")


def test_the_digest_leaves_times_and_order_out() -> None:
    a = {"b": Entry("f", 0o644, mtime=1), "a": Entry("d", 0o755)}
    b = {"a": Entry("d", 0o755, mtime=9), "b": Entry("f", 0o644)}
    assert ix.digest(a) == ix.digest(b)
    assert ix.digest(a) != ix.digest({**a, "b": Entry("f", 0o600)})


def test_tree_order_keeps_a_directory_together() -> None:
    assert sorted(["a-b", "a/x", "a", "a.c"], key=ix.tree_key) == ["a", "a/x", "a-b", "a.c"]


@pytest.mark.parametrize(
    ("path", "clean"), [("/", ""), ("", ""), ("a//b/./c/", "a/b/c"), ("./a", "a"), ("a/../b", "b"), ("é\udcff", "é\udcff")]
)
def test_clean_paths(path: str, clean: str) -> None:
    assert ix.clean(path) == clean


@pytest.mark.parametrize("path", ["..", "../a", "a/../../b", "a\0b"])
def test_paths_that_leave_the_tree_are_refused(path: str) -> None:
    with pytest.raises(TreeError):
        ix.clean(path)


def test_an_absolute_path_stops_at_the_root() -> None:
    assert ix.clean("/../../a", allow_up=True) == "a"


@given(st.text(max_size=20))
def test_no_text_leads_out_of_a_tree(text: str) -> None:
    try:
        path = ix.clean(text, allow_up=True)
    except TreeError:
        return
    assert ".." not in path.split("/")
    assert ix.on_disk("/store", path).startswith("/store")


@pytest.mark.parametrize("path", ["/etc/passwd", "a/../../b", "a\0"])
def test_a_place_on_disk_is_never_outside(path: str) -> None:
    with pytest.raises(TreeError):
        ix.on_disk("/store", path)


def test_a_damaged_index_says_so(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text('["a","f",1\n')
    with pytest.raises(StoreError, match="damaged"):
        ix.load(path)
