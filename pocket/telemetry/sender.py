"""The thread that posts records: batches of about 100 ms, a bounded queue, short deadlines, and nothing that can fail the session.

A request is repeated once, when a kept connection turns out to be closed. An endpoint that fails three times in a row is given
up, so that a session does not spend its last seconds on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pocket.telemetry.config import Config, Endpoint
from pocket.telemetry.context import SpanContext
from pocket.telemetry.records import LogRecord, SpanRecord

if TYPE_CHECKING:
    from http.client import HTTPConnection

BATCH_SECONDS = 0.1
MOST_SPANS = 50_000
MOST_LOG_CHARACTERS = 8 << 20
_FAILURES_TO_GIVE_UP = 3
_PIECE = 1 << 20  # characters of output per request


class Sender:
    """A queue and its thread."""

    def __init__(self, config: Config) -> None:
        self.dropped = 0
        self._config = config
        self._spans: dict[SpanContext, SpanRecord] = {}
        self._logs: list[LogRecord] = []
        self._characters = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._trace_post = _Post(config.traces, config.deadline)
        self._log_post = _Post(config.logs, config.deadline)
        self._thread = threading.Thread(target=self._work, name="telemetry", daemon=True)
        self._thread.start()

    def put_span(self, record: SpanRecord) -> None:
        """Queue a span; the record of its end replaces that of its start when the latter has not been sent yet."""
        with self._changed:
            if self._closing.is_set() or (len(self._spans) >= MOST_SPANS and record.context not in self._spans):
                self.dropped += 1
                return
            self._spans[record.context] = record
            self._changed.notify()

    def put_log(self, record: LogRecord) -> None:
        """Queue a piece of output."""
        with self._changed:
            if self._closing.is_set() or self._characters + len(record.body) > MOST_LOG_CHARACTERS:
                self.dropped += 1
                return
            self._logs.append(record)
            self._characters += len(record.body)
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Send the rest and end the thread, waiting at most `timeout` seconds for it."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._spans or self._logs or self._closing.is_set())
            self._closing.wait(BATCH_SECONDS)
            with self._changed:
                spans, logs = list(self._spans.values()), self._logs
                self._spans, self._logs, self._characters = {}, [], 0
            if not spans and not logs and self._closing.is_set():
                break
            self._send(spans, logs)
        self._trace_post.close()
        self._log_post.close()

    def _send(self, spans: list[SpanRecord], logs: list[LogRecord]) -> None:
        from pocket.telemetry.otlp import encode_logs, encode_spans

        # Spans go first, so that a reader knows the step that a piece of output belongs to.
        if spans:
            self._post(self._trace_post, partial(encode_spans, spans, self._config.resource), len(spans))
        for piece in _pieces(logs):
            self._post(self._log_post, partial(encode_logs, piece, self._config.resource), len(piece))

    def _post(self, post: _Post, encode: Callable[[], bytes], count: int) -> None:
        try:
            taken = post.send(encode())
        except Exception:  # noqa: BLE001 - a value that protobuf refuses must cost its batch, not the thread and all that follows
            taken = False
        if not taken:
            self.dropped += count


def _pieces(records: list[LogRecord]) -> list[list[LogRecord]]:
    """Divide logs into requests of a size that receivers take (4 MiB is a common limit)."""
    pieces: list[list[LogRecord]] = []
    size = 0
    for record in records:
        if not pieces or size + len(record.body) > _PIECE:
            pieces.append([])
            size = 0
        pieces[-1].append(record)
        size += len(record.body)
    return pieces


class _Post:
    """One endpoint and its connection, which is kept between requests."""

    def __init__(self, endpoint: Endpoint | None, deadline: float) -> None:
        self._endpoint, self._deadline = endpoint, deadline
        self._connection: HTTPConnection | None = None
        self._failures = 0

    def send(self, body: bytes) -> bool:
        """Post a body; say whether it was taken."""
        if self._endpoint is None or self._failures >= _FAILURES_TO_GIVE_UP:
            return False
        kept = self._connection is not None
        taken = self._attempt(self._endpoint, body)
        if taken is None and kept:
            taken = self._attempt(self._endpoint, body)
        self._failures = 0 if taken else self._failures + 1
        return bool(taken)

    def _attempt(self, endpoint: Endpoint, body: bytes) -> bool | None:
        """Post once; None when the connection failed before an answer came."""
        from http.client import HTTPException

        try:
            connection = self._connection = self._connection or self._connect(endpoint)
            url = endpoint.url
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            headers = {**endpoint.headers, "Content-Type": "application/x-protobuf", "User-Agent": "pocket"}
            connection.request("POST", target, body, headers)
            with connection.getresponse() as response:
                response.read()
                return 200 <= response.status < 300
        except (ConnectionError, HTTPException):
            self.close()
            return None
        except (OSError, ValueError):  # a deadline, no such host, TLS; a header value that HTTP does not allow
            self.close()
            return False

    def _connect(self, endpoint: Endpoint) -> HTTPConnection:
        from http.client import HTTPConnection, HTTPSConnection

        url = endpoint.url
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        return kind(url.hostname or "", url.port, timeout=self._deadline)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
