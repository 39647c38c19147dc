"""`Host`: directories, files, services and sockets of the machine that the session runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket.api.registry import field
from pocket.errors import PocketError
from pocket.graph import Leaf, Tree
from pocket.ops.given import given
from pocket.services import Service
from pocket.tree.hostsync import sync, sync_file

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj


@field("Host", "directory")
async def directory(e: Engine, _h: str, path: str, exclude: list[str], include: list[str], no_cache: bool, gitignore: bool) -> Tree:
    del no_cache  # the query engine asks again when it is set
    place = e.host_path(path)
    with e.trace("Host.directory", {"path": path}):
        snapshot = await e.blocking(sync, e.store, place, include=include, exclude=exclude, gitignore=gitignore)
    return Tree(given(snapshot))


@field("Host", "file")
async def file(e: Engine, _h: str, path: str, no_cache: bool) -> Leaf:
    del no_cache  # as above
    place = e.host_path(path)
    with e.trace("Host.file", {"path": path}):
        snapshot = await e.blocking(sync_file, e.store, place)
    return Leaf(given(snapshot), place.name)


@field("Host", "findUp")
def find_up(e: Engine, _h: str, name: str, no_cache: bool) -> str | None:
    del no_cache  # nothing is cached
    start = e.host_path(".")
    for depth, parent in enumerate((start, *start.parents)):
        if (parent / name).exists():
            return "../" * depth + name
    return None


@field("Host", "unixSocket")
def unix_socket(e: Engine, _h: str, path: str) -> str:
    place = e.host_path(path)
    if not place.is_socket():
        raise PocketError(f"{path} is not a socket", hint="check the path, and that its server runs")
    return str(place)


@field("Host", "service")
def service(_: Engine, _h: str, ports: list[dict[str, object]], host: str) -> Service:
    if not ports:
        raise PocketError("no ports specified")
    return Service.of_host(ports, host)


@field("Host", "tunnel")
def tunnel(_: Engine, _h: str, service: Obj, native: bool, ports: list[dict[str, object]]) -> Service:
    return Service.tunnel(service.state, native=native, ports=ports)
