"""`Service`: starting, stopping and reaching long-running containers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pocket.api.registry import field
from pocket.values import Port

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj
    from pocket.services import Service


@field("Service", "start", whole=True)
async def start(e: Engine, o: Obj) -> str:
    await e.services.start(o.state, explicit=True)
    return o.id


@field("Service", "stop", whole=True)
async def stop(e: Engine, o: Obj, kill: bool) -> str:
    await e.services.stop(o.state, kill=kill)
    return o.id


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
