"""Tall stacks: runs of layers are merged once, show the same, and a stack that grows merges nothing again."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import OWN_TIER

from pocket.graph import digest_of
from pocket.ops.stacks import RUN, mountable
from pocket.store import Entry, Layer, Snapshot, Store
from pocket.tree.view import View


def contents(layers: tuple[Layer, ...]) -> dict[str, bytes | str]:
    """Give everything that a stack shows."""
    view = View(Snapshot(layers, "any"))
    return {n.path: view.read(n) if n.entry.kind == "f" else n.entry.kind for n in view.walk("")}


def one(store: Store, number: int, kind: str, name: str) -> Layer:
    """Make a layer that writes, removes or replaces something."""
    b = store.layer_builder()
    match kind:
        case "write":
            b.write(name, str(number).encode(), Entry("f", 0o644))
        case "remove":
            b.whiteout(name)
        case "directory":
            b.mkdir(name, Entry("d", 0o755, opaque=True))
            b.write(f"{name}/in", str(number).encode(), Entry("f", 0o644))
    return b.finish()


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "remove", "directory"]), st.sampled_from(["a", "b", "c"])), min_size=2 * RUN, max_size=2 * RUN + 6
)


@settings(max_examples=8, deadline=None)
@given(STEPS)
def test_a_merged_stack_shows_the_same(steps: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = Store.open(Path(place), tier=OWN_TIER)
        layers = tuple(one(store, n, kind, name) for n, (kind, name) in enumerate(steps))
        merged = mountable(store, Snapshot(layers, digest_of("x")))
        assert len(merged) < 2 * RUN
        assert contents(merged) == contents(layers)
        store.close()


def test_a_short_stack_stays_as_it_is(tmp_path: Path) -> None:
    store = Store.open(tmp_path, tier=OWN_TIER)
    layers = tuple(one(store, n, "write", "a") for n in range(3))
    assert mountable(store, Snapshot(layers, "x")) == layers
    store.close()


def test_a_stack_that_grows_merges_nothing_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path, tier=OWN_TIER)
    layers = tuple(one(store, n, "write", f"f{n}") for n in range(2 * RUN + 2))
    first = mountable(store, Snapshot(layers[:-1], "x"))
    there = {p.name for p in store.layers_dir.iterdir()}
    second = mountable(store, Snapshot(layers, "y"))
    assert {p.name for p in store.layers_dir.iterdir()} == there
    assert second == (*first, layers[-1])
    store.close()
