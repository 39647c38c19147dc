"""The lazy operation graph: what a program asked for, before anything has been done.

A `Node` is one operation with its inputs; asking the solver for it makes it happen. A `Ref` names one output of a node,
a `Tree` a directory and a `Leaf` a file below it. All are immutable values; an operation gives its own part of the cache
key as plain JSON, and the solver adds the content of the inputs.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import asyncio

    from pocket.engine import Engine
    from pocket.store.layer import Snapshot

#: Raised whenever the meaning of a key changes, so that records of older versions are never hit.
KEY_VERSION = 2

#: The output of an operation that has only one.
ROOT = "/"


def digest_of(value: object) -> str:
    """Give the sha256 (hex) of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(slots=True)
class Outputs:
    """What an operation left: a snapshot per output, and for a command its exit code and the digests of its streams."""

    snapshots: dict[str, Snapshot]
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    combined: str = ""
    cached: bool = False
    #: Set while the layers lie in a remote cache: what fetches them, or says that they cannot be had. Until then snapshots have
    #: their keys and no layers.
    pending: Callable[[], Awaitable[bool]] | None = None
    fetching: asyncio.Future[None] | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """One input of an operation and how its content counts: the whole snapshot, a directory in it, or one file."""

    ref: Ref
    path: str = ""
    kind: Literal["tree", "file"] = "tree"


class Op(ABC):
    """One operation. Subclasses are frozen dataclasses; `kind` and `args()` are their part of the key."""

    kind: str
    #: False for operations whose result must not be found again by a later session.
    cacheable: ClassVar[bool] = True

    @property
    def by_content(self) -> bool:
        """Tell that a part of the result is known by its content; else by how it was made."""
        return True

    def inputs(self) -> tuple[Input, ...]:
        """Name what must exist before this can run."""
        return ()

    def args(self, engine: Engine) -> object:
        """Give everything else that the result depends on, as JSON."""
        return None

    @abstractmethod
    async def run(self, engine: Engine, inputs: tuple[Snapshot, ...], key: str) -> Outputs:
        """Do it."""


@dataclass(eq=False, slots=True)
class Node:
    """An operation in the graph; identity matters, so that asking twice waits for the same run."""

    op: Op
    outputs: Outputs | None = None
    running: asyncio.Future[Outputs] | None = None
    #: W3C trace context of the request that asked first; the span of the run hangs below it.
    traceparent: str = ""
    #: What `Type.field` a trace shows for it.
    name: str = ""


@dataclass(frozen=True, slots=True)
class Ref:
    """One output of a node: `/` for the root file system, or the target of a mount that a command may write to."""

    node: Node
    output: str = ROOT


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory: the one at `path` (no leading slash, "" for the root) of an output; `name` is the one it had before a change."""

    ref: Ref
    path: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A file at `path` of an output; `name` when it was given another one."""

    ref: Ref
    path: str
    name: str = field(default="")

    def basename(self) -> str:
        """Give the name that the file has when it is copied into a directory."""
        return self.name or self.path.rpartition("/")[2]
