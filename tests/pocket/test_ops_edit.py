"""Tree operations as graph nodes: what they depend on, and when nothing is done."""

from inprocess import Api

from pocket.graph import ROOT, Input, Leaf, Ref, Tree
from pocket.ops import edits
from pocket.ops.edit import SCRATCH_REF, edit
from pocket.ops.given import given
from pocket.store.layer import Snapshot
from pocket.tree.view import View


def file(ref: Ref, path: str, text: str) -> Ref:
    """Write a file."""
    return edit("write_file", ref, edits.write_file, path=path, text=text, mode=0o644)


async def snapshot(api: Api, ref: Ref) -> Snapshot:
    """Give what a reference is."""
    return await api.engine.solver.snapshot(Input(ref))


async def test_what_changes_nothing_is_the_same_snapshot(api: Api) -> None:
    base = file(SCRATCH_REF, "a", "1")
    removed = edit("remove", base, edits.remove, paths=["absent"])
    assert await snapshot(api, removed) == await snapshot(api, base)


async def test_a_change_adds_one_layer(api: Api) -> None:
    ref = file(file(SCRATCH_REF, "a", "1"), "b", "2")
    found = await snapshot(api, ref)
    assert len(found.layers) == 2
    assert [n.path for n in View(found).walk("")] == ["a", "b"]


async def test_trees_of_equal_content_have_one_key_however_they_were_cut_out(api: Api) -> None:
    keys = []
    for noise in ("1", "2"):
        base = file(file(SCRATCH_REF, "keep/f", "same"), "noise", noise)
        keys.append(
            (
                await snapshot(
                    api, edit("subtree", SCRATCH_REF, edits.subtree, Tree(base), path="", include=["keep"], exclude=[], gitignore=False)
                )
            ).key
        )
    assert keys[0] == keys[1]


async def test_times_that_were_asked_for_are_told_apart(api: Api) -> None:
    base = file(SCRATCH_REF, "f", "x")
    stamped = [edit("timestamps", SCRATCH_REF, edits.timestamps, Tree(base), timestamp=t) for t in (1, 2, 1)]
    keys = [(await snapshot(api, s)).key for s in stamped]
    assert keys[0] == keys[2] != keys[1]
    assert not stamped[0].node.op.by_content
    copies = [edit("copy_file", SCRATCH_REF, edits.copy_file, Leaf(s, "f"), src_path="f", basename="f", dest="g") for s in stamped]
    times = [View(await snapshot(api, c)).need("g").entry.mtime for c in copies]
    assert times == [1, 2, 1]


async def test_a_known_snapshot_is_given_as_it_is(api: Api) -> None:
    found = await snapshot(api, file(SCRATCH_REF, "a", "1"))
    assert await snapshot(api, given(found)) is found
    again = given(found)
    again.node.outputs = None
    assert (await api.engine.solver.outputs(again.node)).snapshots[ROOT] is found


async def test_bytes_that_are_no_text_come_through_texts(api: Api) -> None:
    ref = edit("write_file", SCRATCH_REF, edits.write_file, path="f", text=b"\xff\x00".decode("utf-8", "surrogateescape"), mode=None)
    view = View(await snapshot(api, ref))
    assert view.read(view.need("f")) == b"\xff\x00"
    assert view.need("f").entry.mode == 0o644
