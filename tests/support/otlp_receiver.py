"""A real OTLP receiver on loopback: takes HTTP requests, decodes them, and lets a test wait for what it expects."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE = 20.0  # seconds; only a failing test waits this long


class OtlpReceiver:
    """Keeps the spans and log records that came, in order. `status` is answered to every request."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.logs: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.connections = 0
        self.status = 200
        self.close_connections = False
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def address(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def env(self, **extra: str) -> dict[str, str]:
        """Give the variables that `ci` sets for an engine."""
        return {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{self.address}/v1/traces",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{self.address}/v1/logs",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_LIVE": "1",
            **extra,
        }

    def wait(self, condition: Callable[[Self], object]) -> None:
        """Wait until the condition holds of this receiver."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), PATIENCE), f"only {self.names()} and {len(self.logs)} log records came"

    def names(self) -> list[str]:
        """Give the names of the spans, in order; a span that was sent as started and as ended is there twice."""
        return [span.name for span in self.spans]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        with self._changed:
            self.paths.append(path)
            self.headers.append(headers)
            if path.endswith("/traces"):
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.resources.append(attributes(group.resource))
                    self.spans += [span for scope in group.scope_spans for span in scope.spans]
            else:
                for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                    self.logs += [record for scope in logs.scope_logs for record in scope.log_records]
            self._changed.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver._take(self.path, dict(self.headers), body)
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                # Without a word in the answer: what a server does whose idle time has passed.
                self.close_connection = receiver.close_connections

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
                """Say nothing."""

        return Handler


def attributes(holder: Any) -> dict[str, Any]:
    """Give the attributes of a span, log record or resource as plain values."""
    return {pair.key: _plain(pair.value) for pair in holder.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_plain(v) for v in value.array_value.values] if kind == "array_value" else getattr(value, kind)
