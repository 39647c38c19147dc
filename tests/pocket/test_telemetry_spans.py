"""Spans as a receiver gets them: live, nested, with Dagger's attributes."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from otlp_receiver import OtlpReceiver, attributes

from pocket import telemetry as otlp
from pocket.telemetry import NO_SPAN, Telemetry

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as found:
        yield found


def test_a_span_is_told_when_it_starts_and_again_when_it_ends(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    span = tele.start("Container.withExec", TRACEPARENT, {otlp.DAG_DIGEST: "sha256:1"})
    receiver.wait(lambda r: r.spans)
    assert receiver.spans[0].end_time_unix_nano == 0
    span.end(attrs={otlp.POCKET_SECONDS: 0.5})
    tele.close()
    started, ended = receiver.spans
    assert started.span_id == ended.span_id
    assert ended.end_time_unix_nano >= ended.start_time_unix_nano == started.start_time_unix_nano > 0
    assert attributes(ended) == {otlp.DAG_DIGEST: "sha256:1", otlp.POCKET_SECONDS: 0.5}


def test_without_live_only_the_end_is_told(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env(OTEL_EXPORTER_OTLP_TRACES_LIVE=""))
    kept = tele.start("kept open")
    tele.start("ended").end()
    receiver.wait(lambda r: r.spans)
    tele.close()
    assert receiver.names() == ["ended"]
    assert kept.traceparent


def test_a_span_that_ends_at_once_is_told_once(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    for n in range(50):
        tele.start(f"hit {n}", attrs={otlp.DAG_CACHED: True}).end()
    tele.close()
    assert sorted(set(receiver.names())) == sorted(f"hit {n}" for n in range(50))
    ended = [s for s in receiver.spans if s.end_time_unix_nano]
    assert len(ended) == 50
    assert all(attributes(s) == {otlp.DAG_CACHED: True} for s in ended)


def test_spans_hang_together(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env(TRACEPARENT=TRACEPARENT))
    session = tele.start("session")
    stage = tele.start("stage", session)
    step = tele.start("step", stage.traceparent)
    resumed = tele.start("resume step", session, links=[step])
    for span in (resumed, step, stage, session):
        span.end()
    tele.close()
    by_name = {s.name: s for s in receiver.spans}
    assert {s.trace_id.hex() for s in receiver.spans} == {TRACE}
    assert by_name["session"].parent_span_id.hex() == PARENT
    assert by_name["stage"].parent_span_id == by_name["session"].span_id
    assert by_name["step"].parent_span_id == by_name["stage"].span_id
    assert [link.span_id for link in by_name["resume step"].links] == [by_name["step"].span_id]


def test_without_a_parent_a_span_begins_a_trace(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    tele.start("one").end()
    tele.start("two", "not a traceparent").end()
    tele.close()
    one, two = receiver.spans
    assert (one.parent_span_id, two.parent_span_id) == (b"", b"")
    assert one.trace_id != two.trace_id


def test_attributes_keep_their_kind(receiver: OtlpReceiver) -> None:
    told: dict[str, otlp.Value] = {"s": "é", "b": True, "i": 1 << 40, "f": 0.25, otlp.DAG_INPUTS: ["a", "b"], "bad": "\udcff"}
    tele = Telemetry.from_env(receiver.env())
    span = tele.start("kinds", attrs=told)
    span.note("late", 7)
    span.end()
    tele.close()
    assert attributes(receiver.spans[-1]) == {**told, "late": 7, "bad": "?"}


def test_a_failure_is_told_with_its_message(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    with pytest.raises(RuntimeError), tele.start("fails"):
        raise RuntimeError("exit code: 3")
    with pytest.raises(asyncio.CancelledError), tele.start("cancelled"):
        raise asyncio.CancelledError
    with tele.start("works"):
        pass
    tele.close()
    ended = {s.name: s.status for s in receiver.spans if s.end_time_unix_nano}
    assert (ended["fails"].code, ended["fails"].message) == (Status.STATUS_CODE_ERROR, "exit code: 3")
    assert ended["cancelled"].message == "CancelledError"
    assert ended["works"].code == Status.STATUS_CODE_UNSET


def test_a_span_ends_once(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    span = tele.start("once")
    span.end(error="first")
    span.end()
    tele.close()
    assert [s.status.message for s in receiver.spans if s.end_time_unix_nano] == ["first"]


def test_the_resource_says_who_speaks(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env(OTEL_RESOURCE_ATTRIBUTES="ci.run=7%2C8,broken", OTEL_SERVICE_NAME="mine"))
    tele.start("x").end()
    tele.close()
    assert receiver.resources[0]["service.name"] == "mine"
    assert receiver.resources[0]["ci.run"] == "7,8"


def test_a_step_gets_the_trace_and_the_endpoints(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env(BAGGAGE="k=v", HOME="/root", OTEL_EXPORTER_OTLP_HEADERS="authorization=secret"))
    span = tele.start("step")
    env = tele.exec_env(span)
    tele.close()
    assert env["TRACEPARENT"] == span.traceparent
    assert env["BAGGAGE"] == "k=v"
    assert env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"].startswith(receiver.address)
    assert "HOME" not in env
    assert "secret" not in str(env)
    assert tele.exec_env(NO_SPAN) == {}


async def test_without_an_endpoint_nothing_is_done() -> None:
    tele = Telemetry.from_env({"TRACEPARENT": TRACEPARENT, "OTEL_SERVICE_NAME": "x"})
    assert not tele.enabled
    span = tele.start("nothing", attrs={"a": 1})
    assert span is NO_SPAN
    with span:
        span.note("k", 1)
        span.log(1, b"out")
        span.log_eof(1)
    assert span.traceparent == ""
    tele.close()
    assert tele.dropped == 0


async def test_without_an_endpoint_nothing_heavy_is_imported(repository: Path) -> None:
    code = (
        "import sys; from pocket.telemetry import Telemetry; t = Telemetry.from_env({}); t.start('x').end(); t.close();"
        "print({'google', 'opentelemetry', 'http', 'ssl', 'asyncio', 'threading'} & set(sys.modules))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-Sc", code, stdout=asyncio.subprocess.PIPE, cwd=repository)
    out, _ = await process.communicate()
    assert out.decode().strip() == "set()"
