"""The OpenTelemetry variables that pocket heeds (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).

The general endpoint gives traces only, as with the Dagger CLI: output of steps is sent where somebody asked for logs by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from pocket import __version__
from pocket.telemetry.context import SpanContext, parse_traceparent

_PREFIX = "OTEL_EXPORTER_OTLP_"
_LONGEST_DEADLINE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where one signal is posted."""

    url: SplitResult
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where telemetry goes; `traces` None means nowhere."""

    traces: Endpoint | None = None
    logs: Endpoint | None = None
    live: bool = False
    parent: SpanContext | None = None
    deadline: float = _LONGEST_DEADLINE  # seconds, for connecting and for each answer
    resource: Mapping[str, str] = field(default_factory=dict)
    passed_on: Mapping[str, str] = field(default_factory=dict)


def read_config(env: Mapping[str, str]) -> Config:
    """Read the variables; what is not understood (gRPC, a malformed address) switches that signal off."""
    traces = _endpoint(env, "TRACES", env.get(f"{_PREFIX}TRACES_ENDPOINT") or _general(env))
    if traces is None or _truth(env.get("OTEL_SDK_DISABLED")) or env.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return Config()
    no_logs = env.get("OTEL_LOGS_EXPORTER") == "none"
    return Config(
        traces=traces,
        logs=None if no_logs else _endpoint(env, "LOGS", env.get(f"{_PREFIX}LOGS_ENDPOINT", "")),
        live=_truth(env.get(f"{_PREFIX}TRACES_LIVE")),
        parent=parse_traceparent(env.get("TRACEPARENT", "")),
        deadline=_deadline(env),
        resource={"service.name": "pocket", "service.version": __version__, **_resource(env)},
        passed_on={k: v for k, v in env.items() if _may_be_passed_on(k)},
    )


def _may_be_passed_on(name: str) -> bool:
    """Say whether a step may see a variable: where to send to, but not the headers and keys by which one is let in."""
    return name == "BAGGAGE" or (name.startswith(_PREFIX) and name.endswith(("ENDPOINT", "PROTOCOL", "LIVE")))


def _general(env: Mapping[str, str]) -> str:
    base = env.get(f"{_PREFIX}ENDPOINT", "")
    return f"{base.rstrip('/')}/v1/traces" if base else ""


def _truth(text: str | None) -> bool:
    return (text or "").strip().lower() in ("1", "true", "yes", "on")


def _endpoint(env: Mapping[str, str], signal: str, address: str) -> Endpoint | None:
    protocol = env.get(f"{_PREFIX}{signal}_PROTOCOL") or env.get(f"{_PREFIX}PROTOCOL") or "http/protobuf"
    try:
        url = urlsplit(address)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number
        return None
    if not valid or protocol != "http/protobuf":
        return None
    headers = env.get(f"{_PREFIX}{signal}_HEADERS") or env.get(f"{_PREFIX}HEADERS") or ""
    return Endpoint(url=url, headers=_pairs(headers))


def _pairs(text: str) -> dict[str, str]:
    """Read `key=value,key=value` with percent-encoded values."""
    pairs = (item.partition("=") for item in text.split(",") if "=" in item)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}


def _resource(env: Mapping[str, str]) -> dict[str, str]:
    found = _pairs(env.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if name := env.get("OTEL_SERVICE_NAME"):
        found["service.name"] = name
    return found


def _deadline(env: Mapping[str, str]) -> float:
    """Give the deadline of a request: the variable's (milliseconds), but short enough that closing stays quick."""
    text = env.get(f"{_PREFIX}TIMEOUT", "")
    return min(int(text) / 1000, _LONGEST_DEADLINE) if text.isdecimal() and int(text) else _LONGEST_DEADLINE
