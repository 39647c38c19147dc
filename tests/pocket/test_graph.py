"""Keys of the graph: equal for equal values, whatever their order; and the names of files."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pocket.graph import Input, Leaf, Node, Ref, digest_of
from pocket.ops.edit import SCRATCH_REF, Scratch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@given(JSON)
def test_a_digest_is_that_of_the_value(value: object) -> None:
    again = json.loads(json.dumps(value))
    assert digest_of(value) == digest_of(again)
    assert len(digest_of(value)) == 64


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_order_of_names_does_not_count(value: dict[str, int]) -> None:
    assert digest_of(value) == digest_of(dict(reversed(value.items())))


@given(st.lists(st.text(), min_size=2, unique=True))
def test_order_of_items_counts(value: list[str]) -> None:
    assert digest_of(value) != digest_of(value[::-1])


def test_pieces_cannot_be_moved_between_items() -> None:
    assert digest_of(["ab", "c"]) != digest_of(["a", "bc"])


def test_bytes_that_are_no_text_have_a_digest() -> None:
    assert digest_of(b"\xff".decode("utf-8", "surrogateescape")) != digest_of("ÿ")


def test_names_of_files() -> None:
    assert Leaf(SCRATCH_REF, "a/b/c").basename() == "c"
    assert Leaf(SCRATCH_REF, "a/b/c", "given").basename() == "given"
    assert Leaf(SCRATCH_REF, "c").basename() == "c"


def test_nodes_are_told_apart_and_references_are_values() -> None:
    node = Node(Scratch())
    assert node != Node(Scratch())
    assert Ref(node) == Ref(node)
    assert Input(Ref(node), "a") == Input(Ref(node), "a")
    assert Ref(node) != Ref(node, "/m")
