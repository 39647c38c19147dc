"""`Service`: starting, stopping and reaching long-running containers."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pocket.api.registry import field
from pocket.services import Service, ended_error
from pocket.values import Port

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj


_LOOK = 0.5  # seconds between looks whether the client of `up` is still there


async def keep_up(e: Engine, tunnel: Service) -> None:
    """Start a tunnel and its service, and keep them up until the service ends or nobody waits for that any more.

    Raises:
        PocketError: the service does not start, or ended with an error.
    """
    assert tunnel.target is not None
    running = await e.services.start(tunnel, explicit=True)
    target = await e.services.start(tunnel.target)
    places = " ".join(f"http://127.0.0.1:{port}" for port in running.ports)
    print(f"pocket: {target.host} is up: {places}", file=sys.stderr, flush=True)
    ended = target.ended or asyncio.get_running_loop().create_future()
    try:
        while not ended.done() and not e.client_gone():
            await asyncio.wait([ended], timeout=_LOOK)
        failed = ended.done() and ended.result().exit_code != 0
    finally:
        await e.services.stop(tunnel, kill=False)
    if failed:
        raise ended_error(f"service {target.host} exited", target)


@field("Service", "start", whole=True)
async def start(e: Engine, o: Obj) -> str:
    await e.services.start(o.state, explicit=True)
    return o.id


@field("Service", "stop", whole=True)
async def stop(e: Engine, o: Obj, kill: bool) -> str:
    await e.services.stop(o.state, kill=kill)
    return o.id


@field("Service", "up", pure=False)
async def up(e: Engine, s: Service, random: bool, ports: list[dict[str, object]]) -> None:
    await keep_up(e, Service.tunnel(s, native=not random and not ports, ports=ports))


@field("Service", "sync", whole=True)
async def sync(e: Engine, o: Obj) -> str:
    await e.services.identity(o.state)
    return o.id


@field("Service", "hostname")
async def hostname(e: Engine, s: Service) -> str:
    return await e.services.hostname(s)


@field("Service", "withHostname")
def with_hostname(_: Engine, s: Service, hostname: str) -> Service:
    return replace(s, name=hostname)


@field("Service", "endpoint")
async def endpoint(e: Engine, s: Service, scheme: str, port: int | None = None) -> str:
    return await e.services.endpoint(s, port, scheme)


@field("Service", "ports")
async def ports(e: Engine, s: Service) -> list[Port]:
    if s.kind == "container":
        return list(s.ports())
    return [Port(number, f.protocol) for number, f in await e.services.port_numbers(s)]
