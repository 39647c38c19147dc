"""One OTLP trace per run, made from its record alone: the run, its stages, their steps and tests, as spans with the names of the CI/CD and
VCS conventions of OpenTelemetry.

It is sent once, at the end, over HTTP, to the collector that the environment or the configuration names. A collector that does not answer
costs the deadline and a note, never the run; one that speaks gRPC alone is not spoken to. Forks send nothing: their runs would need a
token that is not theirs. Variables of OpenTelemetry's exporters are taken out of this process's environment, or every process started from
here would tell the same collector on its own.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci import __version__
from ci.exits import SIGNALLED, Exit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from ci.config.guards import TracesConfig

_PREFIX = "OTEL_EXPORTER_OTLP_"
_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_CASES = 2000
_RESULTS = {Exit.PASSED: "success", Exit.FAILED: "failure", Exit.BLOCKED: "failure", Exit.INCONCLUSIVE: "failure", Exit.BUDGET: "timeout"}
_TASKS = {"passed": "success", "reused": "success", "failed": "failure", "cancelled": "cancellation", "skipped": "skip", "waiting": "skip"}
_TYPES = {"build": "build", "package": "build", "push": "deploy"}
_SERVER, _INTERNAL, _OK, _ERROR = 2, 1, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Where the trace goes; `repr` shows no header, because one may hold a token."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    deadline: float = 3.0
    parent: tuple[str, str] | None = None
    """(trace, span) that the run belongs to, in hexadecimal."""
    refused: str = ""
    """Why nothing can be sent there."""


def collector(config: TracesConfig, environ: MutableMapping[str, str], *, permitted: bool) -> Collector | None:
    """Return where the trace goes, None where nobody wants it; variables of exporters are taken out of `environ`."""
    told = {name.removeprefix(_PREFIX): environ.pop(name) for name in list(environ) if name.startswith(_PREFIX)}
    base = (told.get("ENDPOINT") or config.endpoint).rstrip("/")
    url = told.get("TRACES_ENDPOINT") or (f"{base}/v1/traces" if base else "")
    if not url or not permitted or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    protocol = told.get("TRACES_PROTOCOL") or told.get("PROTOCOL") or "http/protobuf"
    parent = _PARENT.fullmatch(environ.get("TRACEPARENT", ""))
    return Collector(
        url=url,
        headers=_headers(told.get("TRACES_HEADERS") or told.get("HEADERS") or ""),
        deadline=config.deadline,
        parent=(parent[1], parent[2]) if parent else None,
        refused="" if protocol == "http/protobuf" else f"it is to be spoken to as {protocol}, and only http/protobuf is spoken here",
    )


def _headers(text: str) -> dict[str, str]:
    from urllib.parse import unquote

    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {unquote(name.strip()): unquote(value.strip()) for name, _, value in pairs}


def send(run: Mapping[str, Any], directory: Path, to: Collector) -> str:
    """Send a run's trace; returns why it was not sent, or an empty string. Takes no longer than the deadline."""
    import threading

    if to.refused:
        return to.refused
    outcome = [f"it did not answer within {to.deadline:g} s"]
    # A thread that is left behind: name look-ups know no deadline.
    thread = threading.Thread(target=lambda: outcome.__setitem__(0, _post(run, directory, to)), name="trace", daemon=True)
    thread.start()
    thread.join(to.deadline)
    return outcome[0]


def _post(run: Mapping[str, Any], directory: Path, to: Collector) -> str:
    import httpx

    try:
        body = trace_of(run, directory, parent=to.parent)
        headers = {**to.headers, "Content-Type": "application/x-protobuf"}
        answer = httpx.post(to.url, content=body, headers=headers, timeout=to.deadline)
    except httpx.TimeoutException:
        return f"it did not answer within {to.deadline:g} s"
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    return "" if answer.is_success else f"it answered HTTP {answer.status_code}"


def note(to: Collector, why: str) -> str:
    """Return what a reader should know of a trace that was not sent."""
    from urllib.parse import urlsplit

    try:
        host = urlsplit(to.url).hostname
    except ValueError:
        host = ""
    return f"the trace was not sent to {host or 'its collector'}: {why}"


def trace_of(run: Mapping[str, Any], directory: Path, *, parent: tuple[str, str] | None = None) -> bytes:
    """Return the trace of a run, as an ExportTraceServiceRequest; `directory` is the run's, where its JUnit report lies."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    _set(resource.resource, {"service.name": "weighbridge", "service.version": __version__})
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "weighbridge", __version__
    scope.spans.extend(_spans(run, directory, parent))
    data: bytes = request.SerializeToString()
    return data


def _spans(run: Mapping[str, Any], directory: Path, parent: tuple[str, str] | None) -> Iterator[Span]:
    from datetime import datetime

    began = int(datetime.fromisoformat(str(run["started"])).timestamp() * 1e9)
    trace, above = (bytes.fromhex(parent[0]), bytes.fromhex(parent[1])) if parent else (os.urandom(16), b"")
    root = _span(trace, above, f"RUN {run['subject']}", began, run["seconds"], _about_run(run), kind=_SERVER)
    _end(root, _result(run["exit"]) == "success", f"exit {run['exit']}")
    yield root
    for entry in run["stages"]:
        at = began + int(entry["started"] * 1e9)
        stage = _span(trace, root.span_id, entry["name"], at, entry["seconds"], _about_stage(run, entry))
        _end(stage, entry["status"] != "failed", str((entry.get("failure") or {}).get("message", "")).partition("\n")[0])
        yield stage
        for step in entry.get("steps") or ():
            start = began + int(float(step.get("started", entry["started"])) * 1e9)
            about = {"process.command_line": step.get("command", ""), "weighbridge.cached": bool(step.get("cached"))}
            yield _span(trace, stage.span_id, "exec", start, step.get("seconds", 0.0), about)
        if entry["name"] == "test" and entry["status"] in {"passed", "failed"}:
            yield from _tests(trace, stage.span_id, at, directory / "junit.xml")


def _tests(trace: bytes, parent: bytes, at: int, report: Path) -> Iterator[Span]:
    """Give a span per test; a JUnit report tells how long each took, and not when, so they follow each other."""
    from ci.report.evidence import read_cases

    outcomes = {"passed": "pass", "failed": "fail"}
    for case in read_cases(report)[:_CASES]:
        about = {"test.case.name": case.name, "test.suite.name": case.place.rpartition(":")[0] or case.place}
        if case.outcome in outcomes:
            about["test.case.result.status"] = outcomes[case.outcome]
        span = _span(trace, parent, case.name or "test", at, case.seconds, about)
        _end(span, case.outcome != "failed", case.message.partition("\n")[0])
        at = span.end_time_unix_nano
        yield span


def _about_run(run: Mapping[str, Any]) -> dict[str, Any]:
    facts = run["facts"]
    result = _result(run["exit"])
    return {
        "cicd.pipeline.name": run["subject"],
        "cicd.pipeline.run.id": run["id"],
        "cicd.pipeline.run.url.full": facts.get("run_url", ""),
        "cicd.pipeline.action.name": "RUN",
        "cicd.pipeline.result": result,
        "error.type": "" if result == "success" else run["status"],
        "vcs.repository.name": facts.get("repository", ""),
        "vcs.ref.head.revision": facts.get("commit", ""),
        "vcs.ref.head.name": facts.get("tag") or facts.get("branch", ""),
        "vcs.ref.head.type": "tag" if facts.get("tag") else "branch" if facts.get("branch") else "",
        "vcs.ref.base.name": facts.get("base_branch", ""),
        "vcs.change.id": str(facts.get("number") or ""),
        "weighbridge.engine": (run.get("engine") or {}).get("engine", ""),
        "weighbridge.event": facts.get("event", ""),
    }


def _about_stage(run: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    failed = entry.get("failure") or {}
    result = "error" if failed.get("exit") in {Exit.INFRA, Exit.USAGE} else _TASKS.get(entry["status"], "error")
    return {
        "cicd.pipeline.task.name": entry["name"],
        "cicd.pipeline.task.run.id": f"{run['id']}/{entry['name']}",
        "cicd.pipeline.task.run.result": result,
        "cicd.pipeline.task.type": _TYPES.get(entry["name"], "test"),
        "error.type": str(failed.get("exit", "")) if failed else "",
        "weighbridge.status": entry["status"],
        "weighbridge.why": entry.get("why", ""),
        "weighbridge.reused_from": entry.get("from_run", ""),
    }


def _result(code: int | None) -> str:
    if code is None or code > SIGNALLED:
        return "cancellation"
    return _RESULTS.get(Exit(code), "error") if code in set(Exit) else "error"


def _span(trace: bytes, parent: bytes, name: str, start: int, seconds: float, about: Mapping[str, Any], *, kind: int = _INTERNAL) -> Span:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    span = Span(trace_id=trace, span_id=os.urandom(8), parent_span_id=parent, name=name)
    span.kind = kind  # type: ignore[assignment]  # an enumeration of protobuf is a number
    span.start_time_unix_nano, span.end_time_unix_nano = start, start + int(max(float(seconds), 0.0) * 1e9)
    _set(span, about)
    return span


def _end(span: Span, well: bool, message: str) -> None:  # noqa: FBT001  how it ended
    span.status.code = _OK if well else _ERROR  # type: ignore[assignment]  # see above
    if not well:
        span.status.message = message


def _set(holder: Any, about: Mapping[str, Any]) -> None:
    """Set attributes; what is empty is left out."""
    for name, value in about.items():
        if value == "" or value is None:
            continue
        pair = holder.attributes.add()
        pair.key = name
        if isinstance(value, bool):
            pair.value.bool_value = value
        else:
            pair.value.string_value = str(value)
