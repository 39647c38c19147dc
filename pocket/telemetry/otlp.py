"""Records into OTLP messages. Imports protobuf, so only the sending thread imports this module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2 as common
from opentelemetry.proto.logs.v1 import logs_pb2 as logs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as trace

from pocket import __version__
from pocket.telemetry.records import LogRecord, SpanRecord, Value

_SAMPLED = 1


def encode_spans(records: Iterable[SpanRecord], resource: Mapping[str, str]) -> bytes:
    """Give the body of a traces request."""
    scope = trace.ScopeSpans(scope=_scope(), spans=[_span(r) for r in records])
    request = ExportTraceServiceRequest(resource_spans=[trace.ResourceSpans(resource=_resource(resource), scope_spans=[scope])])
    return bytes(request.SerializeToString())


def encode_logs(records: Iterable[LogRecord], resource: Mapping[str, str]) -> bytes:
    """Give the body of a logs request."""
    scope = logs.ScopeLogs(scope=_scope(), log_records=[_log(r) for r in records])
    request = ExportLogsServiceRequest(resource_logs=[logs.ResourceLogs(resource=_resource(resource), scope_logs=[scope])])
    return bytes(request.SerializeToString())


def _scope() -> common.InstrumentationScope:
    return common.InstrumentationScope(name="pocket", version=__version__)


def _resource(attrs: Mapping[str, str]) -> Resource:
    return Resource(attributes=_attributes(attrs))


def _span(record: SpanRecord) -> trace.Span:
    span = trace.Span(
        trace_id=record.context.trace_id,
        span_id=record.context.span_id,
        parent_span_id=record.parent.span_id if record.parent else b"",
        name=_text(record.name),
        kind=trace.Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=record.start,
        end_time_unix_nano=record.end,
        attributes=_attributes(record.attrs),
        links=[trace.Span.Link(trace_id=link.trace_id, span_id=link.span_id) for link in record.links],
        flags=_SAMPLED,
    )
    if record.error is not None:
        span.status.CopyFrom(trace.Status(code=trace.Status.STATUS_CODE_ERROR, message=_text(record.error)))
    return span


def _log(record: LogRecord) -> logs.LogRecord:
    return logs.LogRecord(
        time_unix_nano=record.time,
        observed_time_unix_nano=record.time,
        trace_id=record.context.trace_id,
        span_id=record.context.span_id,
        body=_value(record.body),
        attributes=_attributes(record.attrs),
        flags=_SAMPLED,
    )


def _attributes(attrs: Mapping[str, Value]) -> list[common.KeyValue]:
    return [common.KeyValue(key=key, value=_value(value)) for key, value in attrs.items()]


def _value(value: Value) -> common.AnyValue:
    match value:
        case bool():
            return common.AnyValue(bool_value=value)
        case int():
            return common.AnyValue(int_value=value)
        case float():
            return common.AnyValue(double_value=value)
        case str():
            return common.AnyValue(string_value=_text(value))
        case _:
            return common.AnyValue(array_value=common.ArrayValue(values=[_value(item) for item in value]))


def _text(value: str) -> str:
    """Make text that protobuf takes: arguments and messages may hold bytes smuggled in as lone surrogates."""
    return value.encode("utf-8", "replace").decode()
