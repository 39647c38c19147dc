"""Byte streams between the host's network and the run's: connections are spliced with each direction closed on its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocket.network import RunNetwork
    from pocket.services import Forward

_CHUNK = 64 * 1024
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    # Only this direction has ended: the other side may still be answering (HTTP/1.0 without a length does just that).
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()


async def _splice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connect: Connect) -> None:
    try:
        there_reader, there_writer = await connect()
    except OSError:
        writer.close()
        return
    try:
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
    finally:
        writer.close()
        there_writer.close()


@contextlib.asynccontextmanager
async def _serving(listener: socket.socket, connect: Connect) -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda r, w: _splice(r, w, connect), sock=listener)
    try:
        yield listener.getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def accept_into(network: RunNetwork, ip: str, forward: Forward) -> AsyncIterator[int]:
    """Listen on the host's loopback and hand each connection to an address of the run's network; yields the port.

    Raises:
        OSError: the port is taken.
    """

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(sock=await network.connect(ip, forward.backend))

    async with _serving(socket.create_server(("127.0.0.1", forward.frontend)), connect) as port:
        yield port


@contextlib.asynccontextmanager
async def forward_host(listener: socket.socket, host: str, port: int) -> AsyncIterator[int]:
    """Hand each connection that a socket of the run's network accepts to a port of the host; yields the port."""

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(host, port)

    async with _serving(listener, connect) as bound:
        yield bound
