"""`Secret`: by value (`setSecret`) or from a provider of the host (`env://`, `file://`, `cmd://`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pocket.api.registry import field
from pocket.values import Secret

if TYPE_CHECKING:
    from pocket.engine import Engine


@field("Query", "setSecret")
def set_secret(e: Engine, _q: None, name: str, plaintext: str) -> Secret:
    return e.secrets.keep(name, plaintext.encode())


@field("Query", "secret", pure=False)
async def secret(e: Engine, _q: None, uri: str, cache_key: str | None = None) -> Secret:
    # Asked again it may have another value; a command that gives one may take its time.
    return await e.blocking(e.secrets.declare, uri, cache_key)


@field("Secret", "name")
def name(_: Engine, s: Secret) -> str:
    return "" if s.uri else s.name  # that of a provider's is made from the value, for keys


@field("Secret", "uri")
def uri(_: Engine, s: Secret) -> str:
    return s.uri


@field("Secret", "plaintext")
def plaintext(e: Engine, s: Secret) -> str:
    return e.secrets.value(s).decode("utf-8", "replace")
