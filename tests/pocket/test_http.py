"""The HTTP server: what it reads, what it refuses, and that one connection carries many requests."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pocket import http
from pocket.http import Request, Response, authorized, serve_connection


async def echo(request: Request) -> Response:
    """Answer with what was understood."""
    return Response(200, f"{request.method} {request.path} {request.body.decode()}".encode(), "text/plain")


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give a connection to a server that echoes."""
    server = await asyncio.start_server(lambda r, w: serve_connection(r, w, echo), "127.0.0.1", 0, limit=http.MAX_HEAD)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Read one answer: status and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length"))
    return int(head.split()[1]), (await reader.readexactly(length)).decode()


async def sent(data: bytes, *, end: bool = False) -> tuple[int, str]:
    """Send bytes on a connection of their own; give the answer."""
    async with connected() as (reader, writer):
        writer.write(data)
        if end:
            writer.write_eof()
        return await answer(reader)


async def test_requests_follow_each_other_on_one_connection() -> None:
    async with connected() as (reader, writer):
        for n in range(3):
            writer.write(f"POST /query?x=1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n{n}".encode())
            assert await answer(reader) == (200, f"POST /query {n}")


async def test_pieces_arrive_when_they_like() -> None:
    async with connected() as (reader, writer):
        for piece in (b"GET / HT", b"TP/1.1\r\nContent-Le", b"ngth: 4\r\n\r\nab", b"cd"):
            writer.write(piece)
            await writer.drain()
        assert await answer(reader) == (200, "GET / abcd")


async def test_chunked_bodies() -> None:
    chunks = b"5\r\nhello\r\n6;note=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    assert await sent(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks) == (200, "POST / hello world")


async def test_a_client_that_waits_for_leave_gets_it() -> None:
    async with connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"ok")
        assert await answer(reader) == (200, "POST / ok")


async def test_close_is_honoured() -> None:
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        await answer(reader)
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01 not http at all\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 413),
    ],
)
async def test_what_is_not_a_request_is_refused(data: bytes, status: int) -> None:
    """The connection is told why, and closed."""
    async with connected() as (reader, writer):
        writer.write(data)
        assert (await answer(reader))[0] == status
        with_rest = await reader.read()
        assert with_rest == b""


@pytest.mark.parametrize("data", [b"GET / HT", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_a_connection_that_ends_in_the_middle(data: bytes) -> None:
    assert (await sent(data, end=True))[0] == 400


async def test_a_connection_that_ends_between_requests_is_in_order() -> None:
    async with connected() as (reader, writer):
        writer.write_eof()
        assert await reader.read() == b""


def credentials(text: str) -> Request:
    """Give a request with an Authorization header."""
    return Request("POST", "/query", {"authorization": text}, b"")


def test_credentials() -> None:
    good = base64.b64encode(b"token:").decode()
    assert authorized(credentials(f"Basic {good}"), "token")
    assert authorized(credentials(f"basic {good}"), "token")
    for bad in ("", "Basic", "Basic !!!", f"Bearer {good}", f"Basic {base64.b64encode(b'token:x').decode()}", "Basic dG9rZW4="):
        assert not authorized(credentials(bad), "token")
    assert not authorized(Request("POST", "/", {}, b""), "token")


def test_an_answer_says_its_length_and_type() -> None:
    wire = Response(404, b"none", "text/plain", (("X-A", "b"),)).encode()
    assert wire.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"Content-Length: 4\r\n" in wire
    assert b"X-A: b\r\n" in wire
    assert wire.endswith(b"\r\n\r\nnone")
