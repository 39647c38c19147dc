"""Output of steps as a receiver gets it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from otlp_receiver import OtlpReceiver, attributes

from pocket import telemetry as otlp
from pocket.telemetry import Telemetry


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as found:
        yield found


def test_output_carries_its_span_and_stream(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    span = tele.start("step")
    span.log(1, b"out\n")
    span.log(2, b"err\n")
    span.log_eof(1)
    span.end()
    tele.close()
    assert [(r.body.string_value, attributes(r)) for r in receiver.logs] == [
        ("out\n", {otlp.STDIO_STREAM: 1}),
        ("err\n", {otlp.STDIO_STREAM: 2}),
        ("", {otlp.STDIO_STREAM: 1, otlp.STDIO_EOF: True}),
    ]
    assert {r.span_id for r in receiver.logs} == {receiver.spans[0].span_id}
    assert {r.trace_id for r in receiver.logs} == {receiver.spans[0].trace_id}
    assert all(r.time_unix_nano for r in receiver.logs)


def test_a_batch_may_begin_with_the_end_of_a_stream(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    tele.start("step").log_eof(1)
    tele.close()
    assert [attributes(r) for r in receiver.logs] == [{otlp.STDIO_STREAM: 1, otlp.STDIO_EOF: True}]


def test_a_span_is_known_before_its_output(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    tele.start("step").log(1, b"out")
    receiver.wait(lambda r: r.logs)
    assert receiver.paths == ["/v1/traces", "/v1/logs"]
    tele.close()


def test_values_that_are_read_back_are_marked(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    tele.start("Container.stdout").log(1, b"value", verbose=True)
    tele.close()
    assert attributes(receiver.logs[0]) == {otlp.STDIO_STREAM: 1, otlp.LOGS_VERBOSE: True}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(min_size=1), size=st.integers(1, 3))
def test_characters_are_put_together_over_pieces(receiver: OtlpReceiver, text: str, size: int) -> None:
    data = text.encode()
    receiver.logs.clear()
    tele = Telemetry.from_env(receiver.env())
    span = tele.start("step")
    for i in range(0, len(data), size):
        span.log(1, data[i : i + size])
        span.log(2, b"\xc3\xa9")  # the other stream has a decoder of its own
    span.log_eof(1)
    tele.close()
    out = [r.body.string_value for r in receiver.logs if attributes(r)[otlp.STDIO_STREAM] == 1]
    assert "".join(out) == text


def test_bytes_that_are_no_text_are_replaced(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    span = tele.start("step")
    span.log(1, b"a\xff")
    span.log(1, b"b\xe2\x82")  # two thirds of a character, and no more comes
    span.log_eof(1)
    tele.close()
    assert "".join(r.body.string_value for r in receiver.logs) == "a\ufffdb\ufffd"


def test_without_a_logs_endpoint_there_are_spans_only(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address + "/"})
    assert not tele.logs
    span = tele.start("step")
    span.log(1, b"out")
    span.log_eof(1)
    span.end()
    tele.close()
    assert receiver.paths == ["/v1/traces"]
    assert receiver.names() == ["step"]


def test_much_output_is_sent_in_several_requests(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env(OTEL_EXPORTER_OTLP_TRACES_LIVE=""))
    span = tele.start("step")
    for _ in range(7):
        span.log(1, b"x" * 500_000)
    tele.close(timeout=20)
    assert sum(len(r.body.string_value) for r in receiver.logs) == 3_500_000
    assert len(receiver.paths) >= 4
    assert tele.dropped == 0
