"""The session process: `pocket session`, which an SDK starts as its CLI.

The order matters. What needs a single thread comes first (namespaces, the forkserver), then whatever can fail for a reason
that the user must read, then the one line on stdout that the SDK waits for, and only then what later requests need.
The session ends when its stdin does, or by SIGTERM or SIGINT; everything it started ends with it.
"""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pocket import __version__
from pocket.errors import PocketError
from pocket.sandbox import Zygote, enter_tier
from pocket.store.store import Store, default_root

if TYPE_CHECKING:
    import asyncio

    from pocket.engine import Engine
    from pocket.http import Request, Response
    from pocket.query import Executor

#: Options of `dagger session` that take a value; all but the working directory are accepted and mean nothing here.
_VALUED = {"--label", "--workdir", "-W", "--workspace", "--version", "--project", "--progress"}


def workdir_of(argv: list[str]) -> Path:
    """Give the working directory that the arguments of `session` name.

    Raises:
        PocketError: it is not a directory.
    """
    where, rest = ".", list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in _VALUED and not equals:
            value = rest.pop(0) if rest else ""
        if name == "--workdir" and value:
            where = value
    path = Path(where).absolute()
    if not path.is_dir():
        raise PocketError(f"the working directory {path} does not exist")
    return path


def main(argv: list[str]) -> int:
    """Serve one session; gives the exit code."""
    try:
        workdir = workdir_of(argv)
        tier = enter_tier()
        store = Store.open(default_root(), tier=tier.name)
        zygote = Zygote.start(tier)
    except PocketError as e:
        print(f"pocket: {e}" + (f"\n  {e.hint}" if e.hint else ""), file=sys.stderr)
        return 1
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    token = secrets.token_hex(16)
    print(f"pocket {__version__} · tier {tier.name} · cache {store.root}", file=sys.stderr, flush=True)
    print(f'{{"port":{listener.getsockname()[1]},"session_token":"{token}"}}', flush=True)
    gc.freeze()

    import asyncio

    from pocket.engine import Engine

    async def serve() -> None:
        engine = Engine(store=store, tier=tier, zygote=zygote, workdir=workdir, environ=os.environ)
        engine.open_remote()
        await _serve(engine, listener, token)

    asyncio.run(serve())
    return 0


async def _serve(engine: Engine, listener: socket.socket, token: str) -> None:
    import asyncio

    from pocket.http import serve_connection

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

    def prepare(self) -> None:
        """Load what the first real query needs, while the SDK reads the schema."""
        self.executor()

    def executor(self) -> Executor:
        """Give the query engine, loading it when it is first asked for."""
        if self._executor is None:
            from pocket.api import REGISTRY
            from pocket.query import Executor

            self._executor = Executor(self.engine, REGISTRY)
        return self._executor

    async def __call__(self, request: Request) -> Response:
        import json

        from pocket import schema
        from pocket.http import Response, authorized

        if not authorized(request, self.token):
            return Response(401, b"", headers=(("WWW-Authenticate", 'Basic realm="Access to the Dagger engine session"'),))
        if request.path != "/query":
            return Response(404, b"not found", "text/plain")
        try:
            body = json.loads(request.body)
            text, variables = body["query"], body.get("variables")
        except (ValueError, KeyError, TypeError, AttributeError):
            return Response(400, b'{"errors":[{"message":"the body must be JSON with a query","locations":[],"path":[]}]}')
        if (prepared := schema.answer_introspection(text)) is not None:
            return Response(body=prepared)
        self.engine.set_traceparent(request.headers.get("traceparent", ""))
        answer = await self.executor().execute(text, variables)
        return Response(body=json.dumps(answer, ensure_ascii=True).encode())
