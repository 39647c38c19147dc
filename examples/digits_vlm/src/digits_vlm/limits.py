"""An ASGI layer that refuses request bodies above a size, whether or not the client states a length."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse

from digits_vlm.errors import error_body

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Answer 413 to a body of more than `limit` bytes, at the latest when byte `limit + 1` arrives."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body read, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = None if self._stated_length(scope) > self._limit else await self._read(receive)
        if body is None:
            message = f"the request body is larger than {self._limit} bytes"
            content = error_body(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, code="request_too_large")
            # The rest of the body is never read, so the connection cannot be used again.
            response = JSONResponse(content, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"connection": "close"})
            await response(scope, receive, send)
            return
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self._app(scope, replay, send)

    @staticmethod
    def _stated_length(scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0

    async def _read(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._limit:
                return None
            if not message.get("more_body", False):
                return bytes(body)
