"""W3C trace context: the `traceparent` header and variable, version 00 (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanContext:
    """The identity of a span: 16 bytes of trace, 8 bytes of span."""

    trace_id: bytes
    span_id: bytes

    @property
    def traceparent(self) -> str:
        """The header's value; always sampled."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-01"


def parse_traceparent(text: str) -> SpanContext | None:
    """Read a `traceparent`; None for anything that is not one, which the standard says to treat as absent."""
    found = _FORM.fullmatch(text.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[4]):
        return None
    trace_id, span_id = bytes.fromhex(found[2]), bytes.fromhex(found[3])
    return SpanContext(trace_id=trace_id, span_id=span_id) if any(trace_id) and any(span_id) else None
