"""What the engine tells besides its answers: spans and logs over OTLP (HTTP, protobuf), as a Dagger engine sends them.

It is on when the environment names a traces endpoint, and otherwise does no work and imports nothing. Recording never waits:
spans and logs go into a bounded queue, and a background thread posts them about every 100 ms. An endpoint that is slow, wrong or gone costs
records, never the session. Whoever hands in data has scrubbed it of secrets (`pocket.scrub`).
"""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pocket.telemetry.config import Config, read_config
from pocket.telemetry.context import SpanContext, parse_traceparent
from pocket.telemetry.records import LogRecord, SpanRecord, Value

if TYPE_CHECKING:
    from pocket.telemetry.sender import Sender

__all__ = [
    "DAG_CACHED",
    "DAG_CALL",
    "DAG_DIGEST",
    "DAG_INPUTS",
    "DAG_OUTPUT",
    "DAG_PENDING",
    "LOGS_VERBOSE",
    "NO_SPAN",
    "POCKET_BYTES",
    "POCKET_KEY",
    "POCKET_MISS",
    "POCKET_SECONDS",
    "STDIO_EOF",
    "STDIO_STREAM",
    "UI_ENCAPSULATE",
    "UI_INTERNAL",
    "UI_PASSTHROUGH",
    "Span",
    "Telemetry",
    "Value",
]

# Dagger's attributes: what every Dagger engine says of a call …
DAG_DIGEST = "dagger.io/dag.digest"
DAG_INPUTS = "dagger.io/dag.inputs"
DAG_OUTPUT = "dagger.io/dag.output"
DAG_CALL = "dagger.io/dag.call"
DAG_CACHED = "dagger.io/dag.cached"
DAG_PENDING = "dagger.io/dag.pending"
UI_INTERNAL = "dagger.io/ui.internal"
UI_PASSTHROUGH = "dagger.io/ui.passthrough"
UI_ENCAPSULATE = "dagger.io/ui.encapsulate"
# … and of a piece of output.
STDIO_STREAM = "stdio.stream"
STDIO_EOF = "stdio.eof"
LOGS_VERBOSE = "dagger.io/logs.verbose"
# What pocket adds.
POCKET_KEY = "pocket.key"
POCKET_MISS = "pocket.miss"
POCKET_BYTES = "pocket.bytes"
POCKET_SECONDS = "pocket.seconds"


class Span:
    """A span that records nothing: what a disabled `Telemetry` gives out, and the interface of the one that does."""

    __slots__ = ()

    @property
    def traceparent(self) -> str:
        """The W3C `traceparent` of this span; empty when nothing is recorded."""
        return ""

    def note(self, key: str, value: Value) -> None:
        """Set an attribute."""

    def log(self, stream: int, data: bytes, *, verbose: bool = False) -> None:
        """Record a piece of output of stream 1 or 2; a character split over two pieces is put together."""

    def log_eof(self, stream: int) -> None:
        """Record that a stream has ended."""

    def end(self, error: str | None = None, attrs: Mapping[str, Value] | None = None) -> None:
        """End the span, as failed when there is an error message; later calls have no effect."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end(None if error is None else str(error) or type(error).__name__)


#: The span of a disabled `Telemetry`, and of what is not told.
NO_SPAN = Span()


class _Recorded(Span):
    """A span that is sent."""

    __slots__ = ("_attrs", "_context", "_decoders", "_ended", "_links", "_name", "_parent", "_start", "_telemetry")

    def __init__(
        self,
        telemetry: Telemetry,
        name: str,
        parent: SpanContext | None,
        attrs: Mapping[str, Value] | None,
        links: tuple[SpanContext, ...],
    ) -> None:
        trace_id = parent.trace_id if parent else os.urandom(16)
        self._telemetry, self._name, self._parent, self._links = telemetry, name, parent, links
        self._context = SpanContext(trace_id=trace_id, span_id=os.urandom(8))
        self._attrs: dict[str, Value] = dict(attrs or {})
        self._start = time.time_ns()
        self._ended = False
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}

    @property
    def context(self) -> SpanContext:
        """Trace and span identity."""
        return self._context

    @property
    def traceparent(self) -> str:
        return self._context.traceparent

    def note(self, key: str, value: Value) -> None:
        self._attrs[key] = value

    def log(self, stream: int, data: bytes, *, verbose: bool = False) -> None:
        if self._telemetry.logs:
            decoder = self._decoders.get(stream)
            if decoder is None:
                decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
            self._say(decoder.decode(data), {STDIO_STREAM: stream}, verbose=verbose)

    def log_eof(self, stream: int) -> None:
        if self._telemetry.logs:
            decoder = self._decoders.pop(stream, None)
            if decoder is not None:
                self._say(decoder.decode(b"", final=True), {STDIO_STREAM: stream}, verbose=False)
            self._telemetry.emit_log(LogRecord(self._context, time.time_ns(), "", {STDIO_STREAM: stream, STDIO_EOF: True}))

    def _say(self, text: str, attrs: dict[str, Value], *, verbose: bool) -> None:
        if text:
            self._telemetry.emit_log(LogRecord(self._context, time.time_ns(), text, attrs | {LOGS_VERBOSE: True} if verbose else attrs))

    def end(self, error: str | None = None, attrs: Mapping[str, Value] | None = None) -> None:
        if not self._ended:
            self._ended = True
            self._attrs.update(attrs or {})
            self._telemetry.emit_span(self.record(end=time.time_ns(), error=error))

    def record(self, *, end: int = 0, error: str | None = None) -> SpanRecord:
        """Give what is to be sent; attributes are copied, as the span may change before it is."""
        return SpanRecord(self._context, self._parent, self._name, self._start, end, error, dict(self._attrs), self._links)


@dataclass(slots=True)
class Telemetry:
    """The telemetry of one session; made by `from_env`, ended by `close`."""

    config: Config
    _sender: Sender | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Telemetry:
        """Read the `OTEL_*` variables and `TRACEPARENT`; without a traces endpoint the result is disabled."""
        return cls(read_config(env))

    @property
    def enabled(self) -> bool:
        """Whether anything is recorded."""
        return self.config.traces is not None

    @property
    def logs(self) -> bool:
        """Whether logs are recorded: their endpoint has to be set by its own variable."""
        return self.config.logs is not None

    @property
    def dropped(self) -> int:
        """How many records were lost to a full queue or an endpoint that did not take them."""
        return self._sender.dropped if self._sender else 0

    def start(
        self,
        name: str,
        parent: Span | SpanContext | str | None = None,
        attrs: Mapping[str, Value] | None = None,
        links: Sequence[Span | SpanContext | str] = (),
    ) -> Span:
        """Start a span below `parent` (a span, or a `traceparent`), by default below the session's own `TRACEPARENT`."""
        if not self.enabled:
            return NO_SPAN
        linked = tuple(found for link in links if (found := _context(link)) is not None)
        span = _Recorded(self, name, _context(parent) or self.config.parent, attrs, linked)
        if self.config.live:
            self.emit_span(span.record())
        return span

    def exec_env(self, span: Span) -> dict[str, str]:
        """Give the variables by which a program in a step adds to the trace; they are never part of a key."""
        if not span.traceparent:
            return {}
        return {**self.config.passed_on, "TRACEPARENT": span.traceparent}

    def emit_span(self, record: SpanRecord) -> None:
        """Queue a span for sending."""
        self._running().put_span(record)

    def emit_log(self, record: LogRecord) -> None:
        """Queue a log record for sending."""
        self._running().put_log(record)

    def _running(self) -> Sender:
        # The thread starts with the first record: a session forks its zygote before any thread may exist.
        if self._sender is None:
            from pocket.telemetry.sender import Sender

            self._sender = Sender(self.config)
        return self._sender

    def close(self, timeout: float = 2.0) -> None:
        """Send what is queued, for at most `timeout` seconds; records that come later are dropped."""
        if self._sender is not None:
            self._sender.close(timeout)


def _context(parent: Span | SpanContext | str | None) -> SpanContext | None:
    if isinstance(parent, str):
        return parse_traceparent(parent)
    return parent.context if isinstance(parent, _Recorded) else parent if isinstance(parent, SpanContext) else None
