"""What is queued between the session and the sending thread: plain values, made into protobuf messages only by the latter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pocket.telemetry.context import SpanContext

Value = str | bool | int | float | Sequence[str]


class SpanRecord(NamedTuple):
    """A span as it is now; `end` 0 means that it goes on. Times are nanoseconds since the epoch."""

    context: SpanContext
    parent: SpanContext | None
    name: str
    start: int
    end: int
    error: str | None
    attrs: Mapping[str, Value]
    links: tuple[SpanContext, ...]


class LogRecord(NamedTuple):
    """A piece of output of the step whose span this is."""

    context: SpanContext
    time: int
    body: str
    attrs: Mapping[str, Value]
