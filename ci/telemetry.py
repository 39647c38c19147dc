"""Listens to what the engine tells besides its answers (OTLP over HTTP on loopback): which steps ran, which were cached, live output.

Any Dagger engine sends this when the environment of its session asks for it. One span per stage is the parent of everything that the stage
asks for, so steps are counted to stages by ancestry. The listener belongs to this run alone: its address holds a random part.
"""

from __future__ import annotations

import gzip
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

_EXECS = ("Container.withExec", "withExec", "resume withExec")
_CACHED, _PENDING, _DIGEST = "dagger.io/dag.cached", "dagger.io/dag.pending", "dagger.io/dag.digest"
_COMMAND = "pocket.args"  # other engines do not tell what a step was
_SHOWN_STEPS = 200
_STEP = {"command": "", "cached": True, "started": 0.0, "seconds": 0.0}
_VERBOSE, _EOF = "dagger.io/logs.verbose", "stdio.eof"
_ENOUGH = 64 << 20
_BATCH_SECONDS = 0.15


class Output(Protocol):
    """Takes the live output of steps; called from the listener's thread."""

    def __call__(self, stage: str, text: str) -> None:
        """Take a piece of a step's output as it was written."""
        ...


@dataclass(slots=True)
class _Span:
    parent: bytes
    name: str
    attributes: dict[str, Any]
    ended: bool
    start: int
    end: int
    failed: bool


@dataclass(slots=True)
class Telemetry:
    """What was told so far; safe to ask from any thread."""

    on_output: Callable[[str, str], None]
    _spans: dict[bytes, _Span] = field(default_factory=dict)
    _stages: dict[bytes, str] = field(default_factory=dict)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _heard: float = 0.0

    def stage_span(self, stage: str) -> bytes:
        """Return the id (8 bytes) of a new span that stands for a stage."""
        identity = secrets.token_bytes(8)
        with self._news:
            self._stages[identity] = stage
        return identity

    def execs(self, stage: str) -> dict[str, int] | None:
        """Return how many of a stage's steps ran and how many were cached; None when nothing was told of any."""
        outcome: dict[str, bool] = {}
        with self._news:
            for identity, span in self._spans.items():
                if span.name in _EXECS and self._stage_of(identity) == stage and not self._defers(span):
                    step = str(span.attributes.get(_DIGEST) or identity.hex())
                    # Asked for twice, a step is cached the second time; what counts is whether it ran at all.
                    outcome[step] = outcome.get(step, True) and bool(span.attributes.get(_CACHED))
        if not outcome:
            return None
        cached = sum(outcome.values())
        return {"ran": len(outcome) - cached, "cached": cached}

    def steps(self, stage: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Return a stage's steps in the order in which they began: command, whether it was cached, when it began (in seconds after
        `since`, which is in seconds since 1970) and how long it took, in seconds.
        """
        found: dict[str, dict[str, Any]] = {}
        with self._news:
            told = [
                span for i, span in self._spans.items() if span.name in _EXECS and not self._defers(span) and self._stage_of(i) == stage
            ]
        for span in sorted(told, key=lambda span: span.start):
            step = {**_STEP, "started": round(max(span.start / 1e9 - since, 0.0), 3)}
            known = found.setdefault(str(span.attributes.get(_DIGEST) or len(found)), step)
            known["command"] = known["command"] or str(span.attributes.get(_COMMAND, ""))
            known["cached"] = known["cached"] and bool(span.attributes.get(_CACHED))
            known["seconds"] = round(known["seconds"] + max(span.end - span.start, 0) / 1e9, 3)
        return list(found.values())[:_SHOWN_STEPS]

    def wait_settled(self, stage: str, *, timeout: float) -> None:
        """Wait until everything about a stage that has just ended has probably arrived, at most `timeout` seconds."""
        ended = time.monotonic()
        with self._news:
            # Engines send every 100 ms what there is; when nothing comes in that time, everything has been told.
            self._news.wait_for(lambda: self._heard > ended, min(timeout, _BATCH_SECONDS))
            self._news.wait_for(lambda: not self._under_way(stage), timeout)

    def take_spans(self, request: bytes) -> None:
        """Take an ExportTraceServiceRequest."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        message = ExportTraceServiceRequest.FromString(request)
        with self._news:
            self._heard = time.monotonic()
            self._news.notify_all()
            for resource in message.resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self._take_span(span)

    def take_logs(self, request: bytes) -> None:
        """Take an ExportLogsServiceRequest and hand its output on."""
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        message = ExportLogsServiceRequest.FromString(request)
        pieces = [
            (record.span_id, record.body.string_value)
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
            if record.body.string_value and not {_VERBOSE, _EOF} & {item.key for item in record.attributes}
        ]
        with self._news:
            told = [(stage, text) for identity, text in pieces if (stage := self._stage_of(identity))]
        for stage, text in told:
            self.on_output(stage, text)

    def _take_span(self, span: Any) -> None:
        ended = bool(span.end_time_unix_nano)
        known = self._spans.get(span.span_id)
        if known and known.ended and not ended:
            return  # batches may overtake each other
        attributes = _attributes(span.attributes)
        self._spans[span.span_id] = _Span(
            parent=span.parent_span_id,
            name=span.name,
            attributes={**(known.attributes if known else {}), **attributes},
            ended=ended,
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            failed=span.status.code == 2,
        )

    def _under_way(self, stage: str) -> bool:
        return any(span.name in _EXECS and not span.ended and self._stage_of(identity) == stage for identity, span in self._spans.items())

    def _stage_of(self, identity: bytes) -> str:
        for _ in range(256):
            if identity in self._stages:
                return self._stages[identity]
            span = self._spans.get(identity)
            if span is None:
                return ""
            identity = span.parent
        return ""

    @staticmethod
    def _defers(span: _Span) -> bool:
        """Tell whether the call only returned lazily: a span named `resume withExec` does the work later."""
        return bool(span.attributes.get(_PENDING)) and not span.attributes.get(_CACHED)


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind in {"string_value", "bool_value", "int_value", "double_value"}:
            found[pair.key] = getattr(pair.value, kind)
    return found


class Receiver:
    """The HTTP server in front of a `Telemetry`; a context manager."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._prefix = "/" + secrets.token_urlsafe(12)
        routes: dict[str, Callable[[bytes], None]] = {
            f"{self._prefix}/v1/traces": telemetry.take_spans,
            f"{self._prefix}/v1/logs": telemetry.take_logs,
        }
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(routes))
        self._server.daemon_threads = True
        # Polling is for `shutdown` only; requests are answered at once.
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="otlp", daemon=True)

    def environment(self) -> dict[str, str]:
        """Return the variables that make a session tell this listener everything."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}{self._prefix}"
        return {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{url}/v1/traces",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{url}/v1/logs",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_LIVE": "1",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(routes: dict[str, Callable[[bytes], None]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_POST(self) -> None:
            body = self._body()
            take = routes.get(self.path)
            status = 404 if take is None else 413 if body is None else 200
            if take is not None and body is not None:
                try:
                    take(body)
                except Exception:  # noqa: BLE001  a malformed message costs its own content, never the run
                    status = 400
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _body(self) -> bytes | None:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                return self._chunks()
            length = int(self.headers.get("Content-Length") or 0)
            return self._unpacked(self.rfile.read(length)) if length <= _ENOUGH else None

        def _chunks(self) -> bytes | None:
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                if len(body) > _ENOUGH:
                    return None
            self.rfile.readline()
            return self._unpacked(body)

        def _unpacked(self, body: bytes) -> bytes:
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
            """Say nothing on the console."""

    return Handler
