"""Tunnels: bytes go both ways, each way is closed on its own, and what cannot be reached closes the connection."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from pocket.network import RunNetwork
from pocket.services import Forward
from pocket.tunnels import accept_into, forward_host


class Loopback:
    """The part of a run's network that a tunnel uses, with real sockets of this machine."""

    async def connect(self, ip: str, port: int) -> socket.socket:
        """Connect to an address."""
        found = socket.socket()
        found.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(found, (ip, port))
        except OSError:
            found.close()
            raise
        return found


NETWORK = cast("RunNetwork", Loopback())


@asynccontextmanager
async def server(answer: bytes = b"") -> AsyncIterator[int]:
    """Read a connection to its end, and only then answer with its length and some more bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await reader.read()
        writer.write(str(len(got)).encode() + answer)
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        yield running.sockets[0].getsockname()[1]


async def ask(port: int, data: bytes) -> bytes:
    """Send, close the sending side, and read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_each_way_is_closed_on_its_own() -> None:
    """The server answers only after the client has ended its side."""
    async with server(b"!") as port, accept_into(NETWORK, "127.0.0.1", Forward(frontend=0, backend=port)) as here:
        assert await ask(here, b"abc") == b"3!"


async def test_much_goes_through_in_both_ways_at_once() -> None:
    more = bytes(3_000_000)
    async with server(more) as port, accept_into(NETWORK, "127.0.0.1", Forward(frontend=0, backend=port)) as here:
        answers = await asyncio.gather(*(ask(here, bytes(2_000_000)) for _ in range(4)))
    assert all(a == b"2000000" + more for a in answers)


async def test_ports_of_the_host_are_reached_from_a_socket_of_the_network() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    async with server() as port, forward_host(listener, "localhost", port) as here:
        assert here == listener.getsockname()[1]
        assert await ask(here, b"x" * 10) == b"10"


async def test_what_cannot_be_reached_closes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with accept_into(NETWORK, "127.0.0.1", Forward(frontend=0, backend=port)) as here:
        assert await ask(here, b"") == b""


async def test_a_closed_tunnel_gives_its_port_back() -> None:
    async with server() as port:
        async with accept_into(NETWORK, "127.0.0.1", Forward(frontend=0, backend=port)) as here:
            pass
        async with accept_into(NETWORK, "127.0.0.1", Forward(frontend=here, backend=port)) as again:
            assert again == here
            with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
                async with accept_into(NETWORK, "127.0.0.1", Forward(frontend=here, backend=port)):
                    pass
