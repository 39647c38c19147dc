"""The OpenTelemetry variables: what is heeded and what switches a signal off."""

import pytest

from pocket.telemetry.config import read_config
from pocket.telemetry.context import SpanContext, parse_traceparent

TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
LOGS = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
URL = "http://127.0.0.1:4318/v1/traces"


def test_an_endpoint_of_its_own_is_used_as_it_is() -> None:
    found = read_config({TRACES: "http://127.0.0.1:1/custom?x=1", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:2"}).traces
    assert found is not None
    assert found.url.geturl() == "http://127.0.0.1:1/custom?x=1"


def test_the_general_endpoint_gets_the_signals_path() -> None:
    config = read_config({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector/base/"})
    assert config.traces is not None
    assert config.traces.url.geturl() == "https://collector/base/v1/traces"
    assert config.logs is None


@pytest.mark.parametrize(
    "env",
    [
        {},
        {TRACES: ""},
        {TRACES: "unix:///run/otel.sock"},
        {TRACES: "http://host:port/"},
        {TRACES: "http:///nowhere"},
        {TRACES: URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {TRACES: URL, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
        {TRACES: URL, "OTEL_SDK_DISABLED": "true"},
        {TRACES: URL, "OTEL_TRACES_EXPORTER": "none"},
        {LOGS: URL},
    ],
)
def test_what_is_missing_or_not_understood_is_off(env: dict[str, str]) -> None:
    config = read_config(env)
    assert (config.traces, config.logs) == (None, None)


def test_logs_can_be_off_alone() -> None:
    env = {TRACES: URL, LOGS: URL}
    assert read_config(env).logs is not None
    assert read_config({**env, "OTEL_LOGS_EXPORTER": "none"}).logs is None
    assert read_config({**env, "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}).logs is None


def test_headers_of_a_signal_win() -> None:
    env = {TRACES: URL, "OTEL_EXPORTER_OTLP_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "b=2%3D,c"}
    traces = read_config(env).traces
    assert traces is not None
    assert traces.headers == {"b": "2="}


@pytest.mark.parametrize(("text", "seconds"), [("500", 0.5), ("10000", 2.0), ("", 2.0), ("soon", 2.0), ("0", 2.0)])
def test_the_deadline_is_short(text: str, seconds: float) -> None:
    assert read_config({TRACES: URL, "OTEL_EXPORTER_OTLP_TIMEOUT": text}).deadline == seconds


def test_a_traceparent_goes_both_ways() -> None:
    context = SpanContext(trace_id=bytes(range(16)), span_id=bytes(range(8)))
    assert parse_traceparent(context.traceparent) == context
    assert parse_traceparent(f" 42-{bytes(range(16)).hex()}-{bytes(range(8)).hex()}-00-more") == context


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-0-0-01",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"ff-{'1' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'1' * 16}-01-more",
        f"00-{'G' * 32}-{'1' * 16}-01",
    ],
)
def test_what_is_no_traceparent_counts_as_none(text: str) -> None:
    assert parse_traceparent(text) is None
