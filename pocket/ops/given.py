"""A snapshot that is there already: what was synced from the host or unpacked from an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pocket.graph import ROOT, Node, Op, Outputs, Ref

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.store.layer import Snapshot


@dataclass(frozen=True, slots=True)
class Given(Op):
    """A known snapshot; there is nothing to run."""

    kind = "given"
    cacheable: ClassVar[bool] = False
    snapshot: Snapshot

    async def run(self, engine: Engine, inputs: tuple[Snapshot, ...], key: str) -> Outputs:
        """Give the snapshot."""
        return Outputs({ROOT: self.snapshot})


def given(snapshot: Snapshot) -> Ref:
    """Give a reference to a snapshot."""
    return Ref(Node(Given(snapshot), Outputs({ROOT: snapshot})))
