"""The trace of a run: its spans and their names, where it goes, and that it never keeps a run from ending."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from otlp_receiver import OtlpReceiver, attributes
from pipelines import Done, Pipeline, Seen, passing

from ci.config.guards import TracesConfig
from ci.facts import Facts
from ci.plan import make_plan
from ci.stage import Context, InfraError, StageFailed
from ci.traces import Collector, collector, note, send

JUNIT = """<testsuites><testsuite name="s">
<testcase classname="tests.test_a" name="test_one" file="tests/test_a.py" line="3" time="0.25"/>
<testcase classname="tests.test_a" name="test_two" file="tests/test_a.py" line="9" time="0.5"><failure message="no">x</failure></testcase>
</testsuite></testsuites>"""
FACTS = Facts(
    commit="0123456789abcdef",
    branch="topic",
    base_branch="main",
    number=7,
    event="pull_request",
    repository="team/model",
    run_url="https://ci.example/1",
)


def _told(pipeline: Pipeline, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, **extra: str) -> dict[str, Any]:
    """Run with this collector; give name → span."""
    for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address, **extra}.items():
        monkeypatch.setenv(name, value)
    pipeline.run()
    return {span.name: span for span in receiver.spans}


def _patient(tmp_path: Path) -> Pipeline:
    """Make a repository that gives its collector all the time that a busy machine needs."""
    pipeline = Pipeline.at(tmp_path)
    config = pipeline.root / "configs" / "pipeline.yaml"
    config.write_text(f"{config.read_text()}traces: {{deadline: 30}}\n")
    return pipeline


def _pipeline(tmp_path: Path, *, fails: bool = False) -> Pipeline:
    pipeline = _patient(tmp_path)
    pipeline.facts = FACTS

    async def tests(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        ctx.record.artifact("junit.xml").write_text(JUNIT)
        if fails:
            raise StageFailed("1 failed, 1 passed")
        return Done("2 passed")

    pipeline.add("build", passing())
    pipeline.add("test", tests, needs=("build",))
    return pipeline


def test_a_run_is_one_trace_of_run_stages_and_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OtlpReceiver() as receiver:
        spans = _told(_pipeline(tmp_path), receiver, monkeypatch)
        assert len(receiver.paths) == 1
        assert receiver.resources[0]["service.name"] == "weighbridge"
    run = spans["RUN small"]
    assert {span.trace_id for span in spans.values()} == {run.trace_id}
    assert (len(run.trace_id), run.kind, run.parent_span_id) == (16, 2, b"")
    assert spans["build"].parent_span_id == spans["test"].parent_span_id == run.span_id
    assert spans["test_one"].parent_span_id == spans["test_two"].parent_span_id == spans["test"].span_id
    assert all(run.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in spans.values())
    about = attributes(run)
    assert about["cicd.pipeline.result"] == "success"
    assert about["vcs.ref.head.revision"] == FACTS.commit
    assert (about["vcs.ref.head.name"], about["vcs.ref.head.type"], about["vcs.change.id"]) == ("topic", "branch", "7")
    assert about["cicd.pipeline.run.url.full"] == "https://ci.example/1"
    assert attributes(spans["build"])["cicd.pipeline.task.type"] == "build"
    assert attributes(spans["test_two"])["test.case.result.status"] == "fail"
    assert spans["test_one"].end_time_unix_nano - spans["test_one"].start_time_unix_nano == 250_000_000


def test_failures_are_errors_with_their_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OtlpReceiver() as receiver:
        spans = _told(_pipeline(tmp_path, fails=True), receiver, monkeypatch)
    assert (spans["test"].status.code, spans["test"].status.message) == (2, "1 failed, 1 passed")
    assert attributes(spans["test"])["cicd.pipeline.task.run.result"] == "failure"
    assert attributes(spans["RUN small"])["cicd.pipeline.result"] == "failure"
    assert attributes(spans["RUN small"])["error.type"] == "failed"


def test_infrastructure_is_an_error_and_what_was_not_run_a_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = _patient(tmp_path)

    async def work(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        raise InfraError("no disk", lasting=True)

    pipeline.add("build", work)
    pipeline.add("test", passing(), needs=("build",))
    with OtlpReceiver() as receiver:
        spans = _told(pipeline, receiver, monkeypatch)
    assert attributes(spans["RUN small"])["cicd.pipeline.result"] == "error"
    assert attributes(spans["build"])["cicd.pipeline.task.run.result"] == "error"
    assert attributes(spans["test"])["cicd.pipeline.task.run.result"] == "skip"


def test_the_host_s_trace_and_token_are_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"TRACEPARENT": f"00-{'ab' * 16}-{'cd' * 8}-01", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20t0ken,x=1"}
    with OtlpReceiver() as receiver:
        spans = _told(_pipeline(tmp_path), receiver, monkeypatch, **extra)
        assert receiver.headers[0]["authorization"] == "Bearer t0ken"
    assert spans["RUN small"].trace_id == bytes.fromhex("ab" * 16)
    assert spans["RUN small"].parent_span_id == bytes.fromhex("cd" * 8)


def test_a_fork_tells_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = _pipeline(tmp_path)
    pipeline.facts = Facts(event="pull_request", fork=True)
    assert not make_plan(pipeline.config, pipeline.facts, pipeline.stages).permits.secrets
    with OtlpReceiver() as receiver:
        assert _told(pipeline, receiver, monkeypatch) == {}
        assert receiver.connections == 0


@pytest.mark.parametrize("status", [400, 503])
def test_a_collector_that_refuses_is_a_note_and_the_run_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with OtlpReceiver() as receiver:
        receiver.status = status
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.address)
        record = _pipeline(tmp_path).run(Seen())
    assert record.exit == 0
    assert record.notes == [f"the trace was not sent to 127.0.0.1: it answered HTTP {status}"]


def test_one_that_never_answers_costs_the_deadline(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        to = Collector(url=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces", deadline=0.2)
        record = _pipeline(tmp_path).run()
        assert send(record.to_json(), record.directory, to) == "it did not answer within 0.2 s"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1/traces", "http://me:pa55word@[broken/"])
def test_an_address_that_is_none_is_said_without_what_it_holds(tmp_path: Path, url: str) -> None:
    record = _pipeline(tmp_path).run()
    why = send(record.to_json(), record.directory, Collector(url=url, deadline=5))
    assert why
    assert "pa55word" not in why


class TestWhereItGoes:
    def test_variables_stand_above_the_configuration_and_are_taken_away(self) -> None:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318/", "OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_SERVICE_NAME": "x"}
        to = collector(TracesConfig(endpoint="http://b"), environ, permitted=True)
        assert to is not None
        assert (to.url, dict(to.headers)) == ("http://a:4318/v1/traces", {"a": "b"})
        assert environ == {"OTEL_SERVICE_NAME": "x"}
        assert "'a'" not in repr(to)

    def test_the_address_for_traces_is_used_as_it_is(self) -> None:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b/x"}
        to = collector(TracesConfig(), environ, permitted=True)
        assert to is not None
        assert to.url == "http://b/x"

    def test_the_configuration_is_enough(self) -> None:
        to = collector(TracesConfig(endpoint="http://b", deadline=1), {}, permitted=True)
        assert to is not None
        assert (to.url, to.deadline) == ("http://b/v1/traces", 1)

    def test_nobody_is_told_unless_asked_for(self) -> None:
        assert collector(TracesConfig(), {}, permitted=True) is None
        assert collector(TracesConfig(endpoint="http://b"), {"OTEL_SDK_DISABLED": "true"}, permitted=True) is None

    def test_another_protocol_is_named(self, tmp_path: Path) -> None:
        to = collector(TracesConfig(endpoint="http://b"), {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, permitted=True)
        assert to is not None
        why = send({}, tmp_path, to)
        assert "only http/protobuf is spoken" in note(to, why)
