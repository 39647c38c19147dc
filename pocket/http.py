"""A small HTTP/1.1 server for one kind of client: SDKs on loopback that post JSON.

It knows keep-alive, Content-Length and chunked request bodies, and nothing else. A general server library costs more
than the answers it would carry: a request with a trivial answer is to take well under a millisecond.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

MAX_HEAD = 64 * 1024
MAX_BODY = 256 * 1024 * 1024  # the largest argument is the text of a withNewFile
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Payload Too Large",
    500: "Internal Server Error",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request: method, path without query string, lower-case headers, body; `gone` tells whether the client has left."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    gone: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; `body` is JSON unless `content_type` says otherwise."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """Give the bytes for the wire."""
        extra = "".join(f"{k}: {v}\r\n" for k, v in self.headers)
        head = (
            f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Error')}\r\n"
            f"Content-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n{extra}\r\n"
        )
        return head.encode("latin-1") + self.body


class BadRequestError(Exception):
    """The bytes are not a request that this server reads; `status` says how."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


Handler = Callable[[Request], Awaitable[Response]]


def authorized(request: Request, token: str) -> bool:
    """Tell whether the request carries HTTP Basic credentials with `token` as the user and no password."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = base64.b64decode(value, validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(given, f"{token}:".encode())


async def read_request(reader: asyncio.StreamReader, proceed: Callable[[], None]) -> Request | None:
    """Read the next request of a connection; `proceed` is called when the client waits for leave to send the body.

    Returns:
        The request, or None at the orderly end of the connection.

    Raises:
        BadRequestError: the bytes are not HTTP, or over the limits.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as e:
        if e.partial.strip():
            raise BadRequestError(400, "the connection ended in the middle of a request") from e
        return None
    except asyncio.LimitOverrunError as e:
        raise BadRequestError(413, "headers too large") from e
    first, _, rest = head[:-4].decode("latin-1").partition("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError(400, "not an HTTP/1.1 request")
    headers = {}
    for line in rest.split("\r\n") if rest else ():
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequestError(400, "malformed header")
        headers[name.strip().lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        proceed()
    return Request(parts[0], parts[1].partition("?")[0], headers, await _read_body(reader, headers), reader.at_eof)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await _read_chunks(reader)
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= MAX_BODY:
            raise BadRequestError(413, f"the body has {length} bytes; at most {MAX_BODY} are read")
        return await reader.readexactly(length) if length else b""
    except asyncio.IncompleteReadError as e:
        raise BadRequestError(400, "the connection ended in the middle of a body") from e
    except ValueError as e:
        raise BadRequestError(400, "malformed length") from e


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        if len(body) + size > MAX_BODY:
            raise BadRequestError(413, f"the body is larger than {MAX_BODY} bytes")
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readline()).strip():  # trailers
        pass
    return bytes(body)


async def _answered(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except Exception:  # noqa: BLE001 - a bug must not look like a network that fails: SDKs would try again and again
        traceback.print_exc()
        return Response(500, b'{"errors":[{"message":"pocket failed; its log (stderr) has the traceback","locations":[],"path":[]}]}')


async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    """Answer the requests of one connection, one after another, until the client ends it."""
    try:
        while True:
            try:
                request = await read_request(reader, lambda: writer.write(b"HTTP/1.1 100 Continue\r\n\r\n"))
            except BadRequestError as e:
                writer.write(Response(e.status, str(e).encode(), "text/plain", (("Connection", "close"),)).encode())
                await writer.drain()
                return
            if request is None:
                return
            writer.write((await _answered(handler, request)).encode())
            await writer.drain()
            if request.headers.get("connection", "").lower() == "close":
                return
    except ConnectionError:
        return  # the client went away: what it asked for goes on, and its retry joins it
    except asyncio.CancelledError:
        return  # the session ends; Python 3.11's server reports a cancelled connection as an error of its own
    finally:
        writer.close()
