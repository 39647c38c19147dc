"""From nodes to results: each operation once, its inputs first, and not at all when an earlier session did it.

Single flight holds at three levels: a node has one future; nodes of equal key in one session share one; and a lock per key
makes processes that share a cache wait for each other. Failures are never recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from pocket.graph import KEY_VERSION, Input, Node, Outputs, digest_of
from pocket.store.layer import Snapshot
from pocket.tree.digest import dagger_digest, dagger_file_digest
from pocket.tree.view import View

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.store.actions import Record


class _InputsChangedError(Exception):
    """An input had to be made here and came out otherwise than the key of its user says."""


class Solver:
    """Evaluates nodes for one session."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._by_key: dict[str, asyncio.Future[Outputs]] = {}
        self._content: dict[tuple[str, str, str], str] = {}

    async def outputs(self, node: Node) -> Outputs:
        """Give the result of a node, running what has to run."""
        if node.outputs is not None:
            return node.outputs
        if node.running is None:
            node.running = asyncio.ensure_future(self._solve(node))
        running = node.running
        try:
            return await asyncio.shield(running)
        finally:
            # A failure is forgotten as soon as those who waited for it know: whoever asks again runs it again.
            if running.done() and node.running is running:
                node.running = None

    async def snapshot(self, ref: Input) -> Snapshot:
        """Give the snapshot that an input lies in, with its layers here."""
        outputs = await self.outputs(ref.ref.node)
        while outputs.pending is not None:
            if outputs.fetching is None or outputs.fetching.done():
                outputs.fetching = asyncio.ensure_future(self._fetch(ref.ref.node, outputs))
            await asyncio.shield(outputs.fetching)
        return outputs.snapshots[ref.ref.output]

    async def _fetch(self, node: Node, outputs: Outputs) -> None:
        """Fetch the layers of a result that a remote cache had; what cannot be had, or is not what it should be, is made here."""
        assert outputs.pending is not None
        if await outputs.pending():
            outputs.pending = None
            return
        key = await self._key(node)
        async with self.engine.store.key_lock(key):
            made = self._lookup(key) or await self._made(node, key)
        outputs.snapshots, outputs.exit_code, outputs.cached = made.snapshots, made.exit_code, made.cached
        outputs.stdout, outputs.stderr, outputs.combined = made.stdout, made.stderr, made.combined
        outputs.pending = None

    async def _identity(self, item: Input) -> str:
        """Give the key of an input; its layers are fetched only when a part of it decides."""
        if item.kind == "tree" and not item.path:
            return (await self.outputs(item.ref.node)).snapshots[item.ref.output].key
        if not item.ref.node.op.by_content:
            return f"{item.kind}:{(await self.outputs(item.ref.node)).snapshots[item.ref.output].key}:{item.path}"
        return await self._content_key(item, await self.snapshot(item))

    async def _key(self, node: Node) -> str:
        inputs = node.op.inputs()
        if len(inputs) > 1:
            parts = list(await asyncio.gather(*(self._identity(i) for i in inputs)))
        else:  # a chain: no task per step
            parts = [await self._identity(i) for i in inputs]
        return digest_of([KEY_VERSION, node.op.kind, node.op.args(self.engine), parts])

    async def _solve(self, node: Node) -> Outputs:
        while True:
            with contextlib.suppress(_InputsChangedError):
                return await self._solve_as_known(node)

    async def _solve_as_known(self, node: Node) -> Outputs:
        key = await self._key(node)
        if not node.op.cacheable:
            node.outputs = await self._run(node, key)
            return node.outputs
        flight = self._by_key.get(key)
        if flight is None:
            flight = self._by_key[key] = asyncio.ensure_future(self._lookup_or_run(node, key))
            flight.add_done_callback(lambda f: self._landed(key, f))
        node.outputs = await asyncio.shield(flight)
        return node.outputs

    def _landed(self, key: str, flight: asyncio.Future[Outputs]) -> None:
        if flight.cancelled() or flight.exception() is not None:
            self._by_key.pop(key, None)

    async def _lookup_or_run(self, node: Node, key: str) -> Outputs:
        found = self._lookup(key)
        if found is None:
            async with self.engine.store.key_lock(key):
                found = self._lookup(key)  # another process may have done it while we waited
                if found is None and self.engine.remote is not None and self._worth_asking(node):
                    found = await self.engine.remote.lookup(key)
                if found is None:
                    return await self._made(node, key)
        self.engine.trace_hit(node, key)
        return found

    async def _made(self, node: Node, key: str) -> Outputs:
        outputs = await self._run(node, key)
        self.engine.store.actions.put(key, to_record(outputs))
        if self.engine.remote is not None:
            self.engine.remote.offer(key, outputs)
        return outputs

    @staticmethod
    def _worth_asking(node: Node) -> bool:
        """Tell whether a remote record saves more than it costs: for commands, and for edits of what is not here yet."""
        if node.op.kind == "exec":
            return True
        results = (i.ref.node.outputs for i in node.op.inputs())
        return any(o is not None and o.pending is not None for o in results)

    def _lookup(self, key: str) -> Outputs | None:
        record = self.engine.store.actions.get(key)
        return None if record is None else self._from_record(record)

    def _from_record(self, record: Record) -> Outputs | None:
        snapshots = {}
        for output, ids in record["layers"].items():
            layers = tuple(self.engine.store.layer(i) for i in ids)
            if None in layers:
                return None
            snapshots[output] = Snapshot(tuple(la for la in layers if la is not None), record["keys"][output])
        return Outputs(
            snapshots, record.get("exit"), record.get("stdout", ""), record.get("stderr", ""), record.get("combined", ""), cached=True
        )

    async def _run(self, node: Node, key: str) -> Outputs:
        wanted = node.op.inputs()
        known = [(await self.outputs(i.ref.node)).snapshots[i.ref.output].key for i in wanted]
        inputs = tuple([await self.snapshot(i) for i in wanted])
        if node.op.cacheable and known != [s.key for s in inputs]:
            raise _InputsChangedError  # the key names what a remote cache promised; what was made instead is something else
        began = time.monotonic()
        with self.engine.trace_run(node, key) as span:
            outputs = await node.op.run(self.engine, inputs, key)
            span.note("pocket.seconds", time.monotonic() - began)
        return outputs

    async def _content_key(self, item: Input, snapshot: Snapshot) -> str:
        """Give the digest of what is used of an input.

        Only what is used counts, so a change elsewhere in the same directory does not run anything again.
        """
        memo = (snapshot.key, item.path, item.kind)
        if memo not in self._content:
            view = View(snapshot)
            node = view.lookup(item.path)
            if node is None:
                return f"{item.kind}:absent:{item.path}"  # the operation itself says what is missing, and where it was named
            is_file = item.kind == "file" or not node.is_dir
            compute = dagger_file_digest if is_file else dagger_digest
            if sum(la.files for la in snapshot.layers) > 2000:
                self._content[memo] = await asyncio.to_thread(compute, view, item.path)
            else:
                self._content[memo] = compute(view, item.path)
        return f"{item.kind}:{self._content[memo]}"


def to_record(outputs: Outputs) -> Record:
    """Give the action record of a result; the inverse is in `Solver`."""
    record: Record = {
        "layers": {name: [la.id for la in s.layers] for name, s in outputs.snapshots.items()},
        "keys": {name: s.key for name, s in outputs.snapshots.items()},
    }
    if outputs.exit_code is not None:
        streams = {"stdout": outputs.stdout, "stderr": outputs.stderr, "combined": outputs.combined}
        record |= {"exit": outputs.exit_code, **streams, "blobs": [d for d in (outputs.combined,) if d]}
    return record
