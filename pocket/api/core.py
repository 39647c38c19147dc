"""Where a chain begins: `Query` and loading objects by ID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pocket import API_VERSION, schema
from pocket.api.registry import REGISTRY, field
from pocket.errors import PocketError, TreeError
from pocket.graph import Leaf, Ref, Tree
from pocket.oci.manifest import Platform
from pocket.ops import edits
from pocket.ops.edit import SCRATCH_REF, edit
from pocket.query import Obj, Resolver
from pocket.values import CacheVolume, Container

if TYPE_CHECKING:
    from pocket.engine import Engine

NATIVE = str(Platform.local())


@field("Query", "version")
def version(_: Engine, _q: None) -> str:
    return API_VERSION


@field("Query", "defaultPlatform")
def default_platform(_: Engine, _q: None) -> str:
    return NATIVE


@field("Query", "container")
def container(_: Engine, _q: None, platform: str | None = None) -> Container:
    # Commands of another platform run where the kernel can run them (binfmt); images of any can be made and pushed.
    return Container(rootfs=SCRATCH_REF, platform=str(Platform.parse(platform)) if platform else NATIVE)


@field("Query", "directory")
def directory(_: Engine, _q: None) -> Tree:
    return Tree(SCRATCH_REF)


@field("Query", "file")
def file(_: Engine, _q: None, name: str, contents: str, permissions: int) -> Leaf:
    if "/" in name:
        raise TreeError(f'file name "{name}" must not contain a directory')
    if len(name) > 255:
        raise TreeError("File name length exceeds the maximum supported 255 characters")
    ref = edit("write_file", SCRATCH_REF, edits.write_file, path=name, text=contents, mode=permissions & 0o777 or 0o644)
    return Leaf(ref, name)


@field("Query", "host")
def host(_: Engine, _q: None) -> str:
    return "host"


@field("Query", "cacheVolume")
def cache_volume(_: Engine, _q: None, key: str, sharing: str, owner: str, source: Obj | None = None) -> CacheVolume:
    return CacheVolume(key, sharing, source.state if source else None, owner)


@field("Query", "node", pure=True)
def node(_: Engine, _q: None, id: Obj) -> Obj:  # noqa: A002 - the API's name
    return id


def _loader(type_: str) -> Resolver:
    def load(_: Engine, _q: None, id: Obj) -> Obj:  # noqa: A002 - the API's name
        if id.type != type_:
            raise PocketError(f"the ID is that of a {id.type}, not of a {type_}")
        return id

    return Resolver(load, {"id": "id"}, whole=False, pure=True)


def _register_loaders() -> None:
    for name in schema.fields()["Query"]:
        if name.startswith("load") and name.endswith("FromID"):
            REGISTRY["Query", name] = _loader(name[4:-6])


_register_loaders()


def leaf_of(value: Any) -> Leaf:
    """Give the file behind an argument.

    Raises:
        PocketError: the object is something else.
    """
    if not isinstance(value.state, Leaf):
        raise PocketError(f"expected a File, got a {value.type}")
    return value.state


def ref_of(tree: Tree) -> Ref:
    """Give a reference whose root is the directory, cutting it out where it lies deeper."""
    if not tree.path:
        return tree.ref
    return edit("subtree", SCRATCH_REF, edits.subtree, tree, path=tree.path)
