"""The solver: each operation once, in one session and between sessions; failures never kept; results only while they are whole."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from inprocess import Api, Engines

from pocket.engine import Engine
from pocket.errors import PocketError
from pocket.graph import ROOT, Input, Node, Op, Outputs, Ref
from pocket.ops import edits
from pocket.ops.edit import SCRATCH_REF, edit
from pocket.store.index import Entry
from pocket.store.layer import Snapshot


@dataclass(frozen=True, slots=True)
class Write(Op):
    """Write a file; `before` runs first and may fail."""

    text: str
    ran: list[str] = field(default_factory=list)
    before: Callable[[], Any] = lambda: None
    sources: tuple[Input, ...] = ()
    kind = "test.write"

    def inputs(self) -> tuple[Input, ...]:
        return self.sources

    def args(self, engine: Engine) -> object:
        return self.text

    async def run(self, engine: Engine, inputs: tuple[Snapshot, ...], key: str) -> Outputs:
        self.ran.append(key)
        waiting = self.before()
        if waiting is not None:
            await waiting
        builder = engine.store.layer_builder()
        builder.write("f", self.text.encode(), Entry("f", 0o644))
        return Outputs({ROOT: Snapshot((builder.finish(),), key)})


async def test_a_node_runs_once_however_often_it_is_asked(api: Api) -> None:
    op = Write("x")
    node = Node(op)
    results = await asyncio.gather(*(api.engine.solver.outputs(node) for _ in range(5)))
    assert len(op.ran) == 1
    assert all(r is results[0] for r in results)


async def test_nodes_of_equal_key_share_one_run(api: Api) -> None:
    ran: list[str] = []
    await asyncio.gather(*(api.engine.solver.outputs(Node(Write("x", ran))) for _ in range(5)))
    assert len(ran) == 1


async def test_a_later_session_finds_the_result(engines: Engines) -> None:
    ran: list[str] = []
    first = await engines().solver.outputs(Node(Write("x", ran)))
    second = await engines().solver.outputs(Node(Write("x", ran)))
    assert len(ran) == 1
    assert not first.cached
    assert second.cached
    assert second.snapshots[ROOT].layers[0].id == first.snapshots[ROOT].layers[0].id


async def test_sessions_side_by_side_wait_for_each_other(engines: Engines) -> None:
    ran: list[str] = []
    started, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        started.set()
        await go.wait()

    first = asyncio.ensure_future(engines().solver.outputs(Node(Write("x", ran, hold))))
    await started.wait()
    second = asyncio.ensure_future(engines().solver.outputs(Node(Write("x", ran))))
    await asyncio.wait([second], timeout=0.1)
    assert not second.done()
    go.set()
    await asyncio.gather(first, second)
    assert len(ran) == 1


async def test_a_failure_is_told_to_all_and_then_forgotten(api: Api) -> None:
    failing = [True]

    def fail() -> None:
        if failing[0]:
            raise PocketError("not this time")

    node = Node(Write("x", before=fail))
    results = await asyncio.gather(*(api.engine.solver.outputs(node) for _ in range(3)), return_exceptions=True)
    assert [str(r) for r in results] == ["not this time"] * 3
    failing[0] = False
    assert (await api.engine.solver.outputs(node)).snapshots[ROOT].layers


async def test_a_failed_input_fails_what_needs_it_and_can_be_tried_again(api: Api) -> None:
    failing = [True]

    def fail() -> None:
        if failing[0]:
            raise PocketError("input")

    below = Node(Write("below", before=fail))
    above = Node(Write("above", sources=(Input(Ref(below)), Input(SCRATCH_REF))))
    with pytest.raises(PocketError, match="input"):
        await api.engine.solver.outputs(above)
    failing[0] = False
    await api.engine.solver.outputs(above)


async def test_one_who_gives_up_does_not_stop_the_others(api: Api) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        started.set()
        await go.wait()

    node = Node(Write("x", before=hold))
    impatient = asyncio.ensure_future(api.engine.solver.outputs(node))
    patient = asyncio.ensure_future(api.engine.solver.outputs(node))
    await started.wait()
    impatient.cancel()
    await asyncio.wait([impatient])
    go.set()
    assert (await patient).snapshots[ROOT].layers


async def test_a_result_whose_layer_is_gone_is_made_again(engines: Engines) -> None:
    ran: list[str] = []
    first = engines()
    await first.solver.outputs(Node(Write("x", ran)))
    first.store.close()
    cleaner = engines()
    cleaner.store.prune(max_bytes=0)
    cleaner.store.close()
    outputs = await engines().solver.outputs(Node(Write("x", ran)))
    assert len(ran) == 2
    assert (outputs.snapshots[ROOT].layers[0].path / "f").read_bytes() == b"x"


def two_files(b: str) -> Ref:
    """Make a tree with `a` the same and `b` as given."""
    ref = edit("write_file", SCRATCH_REF, edits.write_file, path="a", text="same", mode=0o644)
    return edit("write_file", ref, edits.write_file, path="b", text=b, mode=0o644)


@pytest.mark.parametrize(("path", "kind", "runs"), [("a", "file", 1), ("b", "file", 2), ("", "tree", 2)])
async def test_only_what_is_used_of_an_input_counts(api: Api, path: str, kind: Any, runs: int) -> None:
    ran: list[str] = []
    for b in ("1", "2"):
        await api.engine.solver.outputs(Node(Write("x", ran, sources=(Input(two_files(b), path, kind),))))
    assert len(ran) == runs


async def test_what_is_missing_is_left_to_the_operation(api: Api) -> None:
    outputs = await api.engine.solver.outputs(Node(Write("x", sources=(Input(two_files("1"), "no/such"),))))
    assert outputs.snapshots[ROOT].layers


async def test_a_directory_is_known_by_content_in_whatever_order_it_was_made(api: Api) -> None:
    ran: list[str] = []
    orders = [("a", "b"), ("b", "a")]
    for order in orders:
        ref = SCRATCH_REF
        for name in order:
            ref = edit("write_file", ref, edits.write_file, path=f"d/{name}", text=name, mode=0o644)
        await api.engine.solver.outputs(Node(Write("x", ran, sources=(Input(ref, "d"),))))
    assert len(ran) == 1
