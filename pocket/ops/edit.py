"""Operations on trees: one `Op` for all of them, which applies a function of `pocket.tree.ops` to its inputs.

The function gets the store, the snapshot it builds on and those of its further inputs, and gives the layers to put on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pocket.errors import TreeError
from pocket.graph import ROOT, Input, Leaf, Node, Op, Outputs, Ref, Tree, digest_of
from pocket.store import disk
from pocket.store.layer import Layer, Snapshot
from pocket.tree.owners import resolve_owner

if TYPE_CHECKING:
    from pocket.engine import Engine

Apply = Callable[..., tuple[Layer, ...]]


@dataclass(frozen=True, slots=True)
class Edit(Op):
    """`apply(store, base, *sources, **options)` gives layers that are stacked on `base`.

    `owner` is resolved against the passwd and group files of `users`, the container's root file system.
    """

    kind: str
    base: Ref
    apply: Apply
    sources: tuple[Input, ...]
    options: dict[str, Any]
    owner: str = ""
    users: Ref | None = None

    @property
    def by_content(self) -> bool:
        """Tell that times are no part of the result, as everywhere but where they were asked for."""
        return self.kind != "timestamps"

    def inputs(self) -> tuple[Input, ...]:
        """Name the base, the sources, and where names of owners are looked up."""
        users = (Input(self.users),) if self.users is not None and self.owner else ()
        return (Input(self.base), *self.sources, *users)

    def args(self, engine: Engine) -> object:
        """Give the options and the owner as it was written."""
        return [self.options, self.owner]

    async def run(self, engine: Engine, inputs: tuple[Snapshot, ...], key: str) -> Outputs:
        """Apply the function."""
        options = dict(self.options)
        if self.owner:
            users = inputs[-1] if self.users is not None else None
            try:
                options["owner"] = resolve_owner(users, self.owner)
            except TreeError as e:
                raise TreeError(f"failed to resolve ownership for {self.owner}: {e}") from e
            inputs = inputs[: 1 + len(self.sources)]
        try:
            if self.sources:
                layers = await engine.blocking(self.apply, engine.store, *inputs, **options)
            else:
                layers = engine.store.tidily(self.apply, engine.store, *inputs, **options)
        except OSError as e:  # a name that the file system refuses, a full disk
            raise disk.explain(e, f"carry out {self.kind}") from e
        if not layers:  # nothing to do: the same snapshot, under its own identity
            return Outputs({ROOT: inputs[0]})
        if not inputs[0].layers and len(layers) == 1 and self.by_content:
            # What stands alone is known by what it holds, so the same files from another source run nothing again.
            key = digest_of(["stack", inputs[0].key, layers[0].digest])
        return Outputs({ROOT: Snapshot((*inputs[0].layers, *layers), key)})


class Scratch(Op):
    """The empty root file system."""

    kind = "scratch"
    cacheable: ClassVar[bool] = False

    async def run(self, engine: Engine, inputs: tuple[Snapshot, ...], key: str) -> Outputs:
        """Give nothing."""
        return Outputs({ROOT: Snapshot()})


SCRATCH_REF = Ref(Node(Scratch()))


def edit(kind: str, base: Ref, apply: Apply, *sources: Tree | Leaf, owner: str = "", users: Ref | None = None, **options: Any) -> Ref:
    """Give a reference to `base` with `apply` done to it; options must be JSON values."""
    inputs = tuple(Input(s.ref, s.path, "file" if isinstance(s, Leaf) else "tree") for s in sources)
    if owner:
        users = users or base
    return Ref(Node(Edit(kind, base, apply, inputs, options, owner, users)))
