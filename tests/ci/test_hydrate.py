from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from ci.hydrate import dehydrate, hydrate


@dataclass(frozen=True, slots=True)
class Leaf:
    name: str
    number: Annotated[float, "limits"] = 0.0


@dataclass(frozen=True, slots=True)
class Tree:
    leaf: Leaf
    leaves: tuple[Leaf, ...] = ()
    pair: tuple[str, int] = ("", 0)
    listed: list[Leaf] = field(default_factory=list)
    named: dict[str, Leaf] = field(default_factory=dict)
    path: Path | None = None
    kind: Literal["a", "b"] = "a"
    anything: Any = None


leaves = st.builds(Leaf, st.text(), st.floats(allow_nan=False))
trees = st.builds(
    Tree,
    leaves,
    st.lists(leaves).map(tuple),
    st.tuples(st.text(), st.integers()),
    st.lists(leaves),
    st.dictionaries(st.text(), leaves),
    st.none() | st.just(Path("/some/where")),
    st.sampled_from(["a", "b"]),
    st.none() | st.integers() | st.lists(st.text()),
)


@given(trees)
def test_what_was_written_is_read_back(tree: Tree) -> None:
    assert hydrate(Tree, dehydrate(tree)) == tree


def test_fields_of_a_later_version_are_left_out_and_missing_ones_take_their_default() -> None:
    assert hydrate(Leaf, {"name": "x", "later": 1}) == Leaf("x")
