"""The listener with real OTLP messages over real HTTP."""

import gzip
import http.client
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from ci.telemetry import Receiver, Telemetry

Attributes = dict[str, str | bool | int]


class Engine:
    """Sends what an engine sends."""

    def __init__(self) -> None:
        self.output: list[tuple[str, str]] = []
        self.telemetry = Telemetry(lambda stage, text: self.output.append((stage, text)))
        self.receiver = Receiver(self.telemetry)
        self.environment = self.receiver.environment()

    def post(self, variable: str, body: bytes, headers: dict[str, str] | None = None) -> int:
        url = urlsplit(self.environment[variable])
        assert url.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection(url.hostname, url.port or 0)
        connection.request("POST", url.path, body, headers or {})
        status = connection.getresponse().status
        connection.close()
        return status

    def span(self, identity: bytes, parent: bytes, name: str, *, ended: bool = True, **attributes: str | bool) -> None:
        request = ExportTraceServiceRequest()
        span = request.resource_spans.add().scope_spans.add().spans.add()
        span.span_id, span.parent_span_id, span.name = identity, parent, name
        span.start_time_unix_nano, span.end_time_unix_nano = 1, 2 * ended
        span.attributes.extend(_pairs({f"dagger.io/dag.{key}": value for key, value in attributes.items()}))
        assert self.post("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", request.SerializeToString()) == 200

    def log(self, span: bytes, text: str, attributes: Attributes | None = None) -> None:
        request = ExportLogsServiceRequest()
        record = request.resource_logs.add().scope_logs.add().log_records.add()
        record.span_id, record.body.string_value = span, text
        record.attributes.extend(_pairs(attributes or {"stdio.stream": 1}))
        assert self.post("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", request.SerializeToString()) == 200


def _pairs(values: Attributes) -> list[KeyValue]:
    return [
        KeyValue(key=key, value=AnyValue(bool_value=value) if isinstance(value, bool) else AnyValue(string_value=str(value)))
        for key, value in values.items()
    ]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    with engine.receiver:
        yield engine


def test_steps_are_counted_to_the_stage_above_them(engine: Engine) -> None:
    build, test = engine.telemetry.stage_span("build"), engine.telemetry.stage_span("test")
    engine.span(b"1" * 8, build, "Query.container")
    engine.span(b"2" * 8, b"1" * 8, "Container.withExec", digest="a")
    engine.span(b"3" * 8, b"1" * 8, "Container.withExec", digest="b", cached=True)
    engine.span(b"4" * 8, test, "Container.withExec", digest="c", cached=True)
    engine.span(b"5" * 8, b"9" * 8, "Container.withExec", digest="d")
    assert engine.telemetry.execs("build") == {"ran": 1, "cached": 1}
    assert engine.telemetry.execs("test") == {"ran": 0, "cached": 1}
    assert engine.telemetry.execs("push") is None


def test_a_step_that_ran_once_and_was_asked_for_twice_ran(engine: Engine) -> None:
    build = engine.telemetry.stage_span("build")
    engine.span(b"1" * 8, build, "Container.withExec", digest="a")
    engine.span(b"2" * 8, build, "Container.withExec", digest="a", cached=True)
    assert engine.telemetry.execs("build") == {"ran": 1, "cached": 0}


def test_a_call_that_returned_lazily_counts_when_its_work_is_done(engine: Engine) -> None:
    build = engine.telemetry.stage_span("build")
    engine.span(b"1" * 8, build, "Container.withExec", digest="a", pending=True)
    assert engine.telemetry.execs("build") is None
    engine.span(b"2" * 8, b"1" * 8, "resume withExec", digest="a")
    assert engine.telemetry.execs("build") == {"ran": 1, "cached": 0}


def test_the_parents_span_may_come_after_its_childs_and_a_start_after_an_end(engine: Engine) -> None:
    build = engine.telemetry.stage_span("build")
    engine.span(b"2" * 8, b"1" * 8, "Container.withExec", digest="a", cached=True)
    engine.span(b"2" * 8, b"1" * 8, "Container.withExec", ended=False)
    engine.span(b"1" * 8, build, "Query.container")
    assert engine.telemetry.execs("build") == {"ran": 0, "cached": 1}


def test_live_output_reaches_its_stage_without_what_was_only_read_back(engine: Engine) -> None:
    build = engine.telemetry.stage_span("build")
    engine.span(b"1" * 8, build, "Container.withExec", ended=False)
    engine.log(b"1" * 8, "hello\n")
    engine.log(b"1" * 8, "again\n", {"dagger.io/logs.verbose": True})
    engine.log(b"1" * 8, "", {"stdio.eof": True})
    engine.log(b"7" * 8, "somebody else's\n")
    assert engine.output == [("build", "hello\n")]


def test_waiting_ends_when_the_last_step_is_told(engine: Engine) -> None:
    build = engine.telemetry.stage_span("build")
    engine.span(b"1" * 8, build, "Container.withExec", ended=False)
    waiting = threading.Thread(target=lambda: engine.telemetry.wait_settled("build", timeout=60))
    waiting.start()
    engine.span(b"8" * 8, build, "Query.version")
    engine.span(b"1" * 8, build, "Container.withExec")
    while waiting.is_alive():  # whichever came first, news or waiting: more news ends it
        engine.span(b"9" * 8, build, "Query.version")
        waiting.join(0.01)
    assert engine.telemetry.execs("build") == {"ran": 1, "cached": 0}


def test_compressed_and_chunked_messages_are_read(engine: Engine) -> None:
    build = engine.telemetry.stage_span("build")
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.span_id, record.body.string_value = build, "packed"
    body = gzip.compress(request.SerializeToString())
    assert engine.post("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", body, {"Content-Encoding": "gzip"}) == 200
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    headers = {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}
    assert engine.post("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", chunked, headers) == 200
    assert engine.output == [("build", "packed")] * 2


def test_what_is_no_message_costs_only_itself(engine: Engine) -> None:
    assert engine.post("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", b"\xff\xff not protobuf") == 400
    build = engine.telemetry.stage_span("build")
    engine.span(b"1" * 8, build, "Container.withExec", digest="a")
    assert engine.telemetry.execs("build") == {"ran": 1, "cached": 0}


def test_who_does_not_know_the_address_is_not_heard(engine: Engine) -> None:
    engine.environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = engine.environment["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"].replace(
        engine.receiver._prefix, ""
    )
    assert engine.post("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", b"") == 404
