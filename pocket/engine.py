"""One session's engine: everything that resolvers and operations need, opened once and closed once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pocket import telemetry as otlp
from pocket.errors import PocketError
from pocket.secrets import Secrets, stable_salt
from pocket.services import Services
from pocket.solver import Solver

if TYPE_CHECKING:
    from pocket.graph import Node
    from pocket.remote import RemoteCache
    from pocket.sandbox import Tier, Zygote
    from pocket.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")

#: What a step gets of the session's environment, so that it reaches the network as the machine does; never part of a key.
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")

_TRACEPARENT: ContextVar[str] = ContextVar("traceparent", default="")
_GONE: ContextVar[Callable[[], bool]] = ContextVar("gone", default=lambda: False)
_SPAN: ContextVar[otlp.Span] = ContextVar("span", default=otlp.NO_SPAN)


class Engine:
    """The parts of a session, and the few services that all of them use."""

    def __init__(self, *, store: Store, tier: Tier, zygote: Zygote, workdir: Path, environ: Mapping[str, str]) -> None:
        self.store, self.tier, self.zygote, self.workdir = store, tier, zygote, workdir
        self.environ = environ
        self.telemetry = otlp.Telemetry.from_env(environ)
        self.secrets = Secrets(salt=stable_salt(store.root), workdir=workdir)
        self.solver = Solver(self)
        self.services = Services(self)
        self.remote: RemoteCache | None = None
        #: Whether the container of a command that failed stays, for a client to look into.
        self.keeps_failed = environ.get("POCKET_KEEP_FAILED", "") not in {"", "0"}
        #: Whether what is not in the cache is done without, instead of fetched; keys are the same.
        self.offline = environ.get("POCKET_OFFLINE", "") not in {"", "0"}
        self.registry_auth: dict[str, tuple[str, bytes]] = {}
        #: The latest time that a file of a packed layer may have (seconds since 1970), for reproducible images.
        self.epoch = int(e) if (e := environ.get("SOURCE_DATE_EPOCH", "")).isdigit() else None

    def open_remote(self) -> None:
        """Use the remote layer caches that the environment names; a malformed name costs the cache, not the session."""
        if self.offline or not any(self.environ.get(name) for name in ("POCKET_CACHE_FROM", "POCKET_CACHE_TO")):
            return
        from pocket.remote import RemoteCache

        try:
            self.remote = RemoteCache.from_env(self)
        except PocketError as e:
            print(f"pocket: no remote cache: {e}", file=sys.stderr, flush=True)

    async def close(self) -> None:
        """Stop services, let the last spans out and give the store back."""
        await self.services.close()
        if self.remote is not None:
            await self.remote.close()
        self.telemetry.close()
        self.store.close()

    def need_network(self, what: str) -> None:
        """Refuse what only the network can give, in a session that must do without it."""
        if self.offline:
            raise PocketError(
                f"{what} is not in the cache, and POCKET_OFFLINE forbids the network", hint="fetch it once without POCKET_OFFLINE"
            )

    # --- the host
    def host_path(self, path: str) -> Path:
        """Give a path of the host: `~` expanded, relative to the session's working directory, normalised."""
        return Path(os.path.normpath(self.workdir / Path(path).expanduser()))

    def proxy_env(self) -> tuple[str, ...]:
        """Give the proxy settings of the machine in both spellings."""
        found = {}
        for name in PROXY_VARIABLES:
            value = self.environ.get(name) or self.environ.get(name.lower())
            if value:
                found[name] = found[name.lower()] = value
        return tuple(f"{k}={v}" for k, v in found.items())

    async def blocking(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what reads or writes many files in a thread."""
        return await asyncio.to_thread(lambda: self.store.tidily(call, *args, **kwargs))

    # --- telling what happens
    def set_request(self, traceparent: str, gone: Callable[[], bool]) -> None:
        """Take the trace context of the request that is being answered, and what tells whether its client has left."""
        _TRACEPARENT.set(traceparent)
        _GONE.set(gone)

    @staticmethod
    def client_gone() -> bool:
        """Tell whether nobody waits any more for the answer to the request that is being answered."""
        return _GONE.get()()

    def traceparent(self) -> str:
        """Give the trace context of the request that is being answered, or ""."""
        return _TRACEPARENT.get()

    def current_span(self) -> otlp.Span:
        """Give the span of the operation that runs, for its output."""
        return _SPAN.get()

    def trace_env(self) -> tuple[str, ...]:
        """Give what lets a command take part in the trace; nothing when there is none, and never part of a key."""
        return tuple(f"{k}={v}" for k, v in self.telemetry.exec_env(_SPAN.get()).items())

    @contextlib.contextmanager
    def trace(self, name: str, attributes: dict[str, Any], parent: str = "") -> Iterator[otlp.Span]:
        """Tell a trace that something runs, and how it ended."""
        span = self.telemetry.start(name, parent=parent or self.traceparent() or None, attrs=attributes)
        token = _SPAN.set(span)
        try:
            yield span
        except BaseException as e:
            span.end(error=str(e) or type(e).__name__)
            raise
        else:
            span.end()
        finally:
            _SPAN.reset(token)

    def trace_run(self, node: Node, key: str) -> contextlib.AbstractContextManager[otlp.Span]:
        """Tell a trace that an operation runs; those without a name are plumbing and are not told."""
        if not node.name or not self.telemetry.enabled:
            return contextlib.nullcontext(otlp.NO_SPAN)
        return self.trace(node.name, {otlp.DAG_DIGEST: key, "pocket.key": key, **describe(node)}, node.traceparent)

    def trace_hit(self, node: Node, key: str) -> None:
        """Tell a trace that an operation did not have to run."""
        if node.name and self.telemetry.enabled:
            attributes = {otlp.DAG_DIGEST: key, "pocket.key": key, otlp.DAG_CACHED: True, **describe(node)}
            self.telemetry.start(node.name, parent=node.traceparent or None, attrs=attributes).end()

    def log_bug(self, error: Exception) -> None:
        """Leave the traceback of an unexpected error on the session's stderr, which the SDK keeps."""
        traceback.print_exception(error, file=sys.stderr)


def describe(node: Node) -> dict[str, Any]:
    """Give what a reader of a trace wants to know of an operation."""
    argv = getattr(node.op, "argv", None)
    return {"pocket.args": " ".join(argv)[:400]} if argv else {}
