"""What a bad endpoint costs: records, and nothing else."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from otlp_receiver import OtlpReceiver

from pocket.telemetry import NO_SPAN, Telemetry, sender
from pocket.telemetry.sender import Sender


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as found:
        yield found


def has(name: str) -> Callable[[OtlpReceiver], bool]:
    return lambda receiver: name in receiver.names()


def test_a_connection_is_kept(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    for n in range(3):
        tele.start(f"{n}").end()
        receiver.wait(has(f"{n}"))
    tele.close()
    assert receiver.connections == 1


def test_a_connection_that_the_receiver_closed_is_opened_again(receiver: OtlpReceiver) -> None:
    receiver.close_connections = True
    tele = Telemetry.from_env(receiver.env())
    for n in range(3):
        tele.start(f"{n}").end()
        receiver.wait(has(f"{n}"))
    tele.close()
    assert tele.dropped == 0
    assert receiver.connections >= 3


def test_headers_are_sent(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env(OTEL_EXPORTER_OTLP_HEADERS="authorization=Basic%20abc, x-run=7"))
    tele.start("x").end()
    tele.close()
    assert receiver.headers[0]["authorization"] == "Basic abc"
    assert receiver.headers[0]["x-run"] == "7"
    assert receiver.headers[0]["Content-Type"] == "application/x-protobuf"


@pytest.mark.parametrize("status", [201, 204])
def test_any_success_is_success(receiver: OtlpReceiver, status: int) -> None:
    receiver.status = status
    tele = Telemetry.from_env(receiver.env())
    tele.start("x").end()
    tele.close()
    assert tele.dropped == 0


def test_refused_records_are_counted(receiver: OtlpReceiver) -> None:
    receiver.status = 503
    tele = Telemetry.from_env(receiver.env(OTEL_EXPORTER_OTLP_TRACES_LIVE=""))
    tele.start("x").end()
    tele.close()
    assert tele.dropped == 1


def test_an_endpoint_that_is_gone_is_given_up() -> None:
    with socket.socket() as taken:  # bound and not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        tele = Telemetry.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{taken.getsockname()[1]}"})
        for n in range(20):
            tele.start(f"{n}").end()
        tele.close()
    assert tele.dropped == 20


def test_an_endpoint_that_never_answers_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tele = Telemetry.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        tele.start("x").end()
        before = time.monotonic()
        tele.close(timeout=0.1)
        # The request's own deadline is 2 s: closing did not wait for it.
        assert time.monotonic() - before < tele.config.deadline
        assert threading.main_thread().is_alive()
        assert tele.start("after the end") is not NO_SPAN
        tele.close(timeout=10)  # the thread ends with its deadline; nothing is left running


def test_records_after_the_end_are_dropped(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    span = tele.start("x")
    tele.close()
    span.log(1, b"late")
    span.end()
    assert tele.dropped == 2


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "MOST_SPANS", 5)
    monkeypatch.setattr(sender, "MOST_LOG_CHARACTERS", 10)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": address, "OTEL_EXPORTER_OTLP_TIMEOUT": "50"}
        tele = Telemetry.from_env(env)
        span = tele.start("loud")
        for _ in range(500):
            span.log(1, b"x" * 11)
            tele.start("many").end()
        tele.close(timeout=10)
    assert tele.dropped == 1000  # more than fits is lost at once, the rest when the endpoint does not answer


def test_a_value_that_cannot_be_encoded_costs_its_batch_only(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env(OTEL_EXPORTER_OTLP_TRACES_LIVE=""))
    tele.start("too large", attrs={"n": 1 << 70}).end()
    tele.start("output").log(1, b"out")
    receiver.wait(lambda r: r.logs)
    tele.start("fine").end()
    tele.close()
    assert receiver.names() == ["fine"]
    assert tele.dropped == 1


def test_records_come_from_many_threads(receiver: OtlpReceiver) -> None:
    tele = Telemetry.from_env(receiver.env())
    root = tele.start("root")

    def work(n: int) -> None:
        for m in range(50):
            with tele.start(f"{n}.{m}", root) as span:
                span.log(1, b".")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    root.end()
    tele.close(timeout=20)
    assert len({s.name for s in receiver.spans if s.end_time_unix_nano}) == 401
    assert len(receiver.logs) == 400
    assert isinstance(tele._sender, Sender)
    assert not tele._sender._thread.is_alive()
