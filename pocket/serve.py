"""Serving a session's requests: HTTP on loopback, until stdin ends or a signal comes.

This module and what it imports are loaded after the SDK has read the session's line; the resolvers, by far the largest part, are
loaded in a thread while the SDK reads the schema.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket import API_VERSION, schema
from pocket.engine import Engine
from pocket.http import Request, Response, authorized, serve_connection

if TYPE_CHECKING:
    from pocket.query import Executor
    from pocket.sandbox import Tier, Zygote
    from pocket.store.store import Store

# Seconds until a thread that loads modules lets the loop answer; what is asked meanwhile goes to and fro a dozen times.
_WHILE_LOADING, _LATER = 0.0003, 0.005
_VERSION = re.compile(r"\s*(?:query\s*)?\{\s*version\s*\}\s*")


def run(*, store: Store, tier: Tier, zygote: Zygote, workdir: Path, listener: socket.socket, token: str) -> None:
    """Serve until the session ends."""

    async def serve() -> None:
        engine = Engine(store=store, tier=tier, zygote=zygote, workdir=workdir, environ=os.environ)
        engine.open_remote()
        await _serve(engine, listener, token)

    asyncio.run(serve())
    zygote.close()  # and so whatever still runs in a container, before we are gone ourselves


async def _serve(engine: Engine, listener: socket.socket, token: str) -> None:
    engine.store.keep_house()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    _watch_stdin(loop, ended)
    handler = _Handler(engine, token)
    server = await asyncio.start_server(lambda r, w: serve_connection(r, w, handler), sock=listener, limit=1 << 20)
    loop.call_soon(handler.prepare)
    try:
        await ended.wait()
    finally:
        server.close()
        await engine.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


def _watch_stdin(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    def ready() -> None:
        try:
            data = os.read(0, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(0)
            ended.set()

    try:
        loop.add_reader(0, ready)
    except OSError:  # epoll refuses files and /dev/null, whose end is reached at once: so is the session's
        ended.set()


class _Handler:
    """Answers `POST /query`."""

    def __init__(self, engine: Engine, token: str) -> None:
        self.engine, self.token = engine, token
        self._executor: Executor | None = None
        self._loading = threading.Lock()

    def prepare(self) -> None:
        """Load what real queries need in a thread, while the SDK reads the schema."""
        sys.setswitchinterval(_WHILE_LOADING)
        threading.Thread(target=self._prepare, daemon=True, name="load").start()

    def _prepare(self) -> None:
        with contextlib.suppress(Exception):  # a session that ends at once refuses imports; what truly fails does so for the request too
            self._load()

    def _load(self) -> None:
        from pocket.api import REGISTRY  # the largest import of a session
        from pocket.query import Executor  # as above

        with self._loading:
            if self._executor is None:
                self._executor = Executor(self.engine, REGISTRY)
                sys.setswitchinterval(_LATER)

    async def executor(self) -> Executor:
        """Give the query engine, waiting until it is loaded."""
        if self._executor is None:
            await asyncio.to_thread(self._load)
        assert self._executor is not None
        return self._executor

    async def __call__(self, request: Request) -> Response:
        if not authorized(request, self.token):
            return Response(401, b"", headers=(("WWW-Authenticate", 'Basic realm="Access to the Dagger engine session"'),))
        if request.path != "/query":
            return Response(404, b"not found", "text/plain")
        try:
            text, variables = _asked(request.body)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return Response(400, b'{"errors":[{"message":"the body must be JSON with a query","locations":[],"path":[]}]}')
        if (prepared := schema.answer_introspection(text)) is not None:
            return Response(body=prepared)
        if _VERSION.fullmatch(text):  # what every SDK asks first must not wait for the rest
            return Response(body=json.dumps({"data": {"version": API_VERSION}}).encode())
        self.engine.set_request(request.headers.get("traceparent", ""), request.gone)
        answer = await (await self.executor()).execute(text, variables)
        return Response(body=json.dumps(answer, ensure_ascii=True).encode())


def _asked(body: bytes) -> tuple[str, Any]:
    """Give the query and its variables; raises one of many errors when the body is something else."""
    asked = json.loads(body)
    if not isinstance(asked["query"], str):
        raise TypeError("query")
    return asked["query"], asked.get("variables")
