"""The configuration of an image: how to run it, how it was made, and the diff ids of its layers.

Fields that this type does not know are kept in `extra` and `container_extra` and are written back, so that a round trip
through the engine loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pocket.oci import digest as dg
from pocket.oci.manifest import ManifestError, Platform, encode, load_object, strings, text

_KNOWN = {"architecture", "os", "variant", "created", "author", "config", "rootfs", "history"}
_KNOWN_CONTAINER = {
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir"),
    *("Labels", "StopSignal", "Healthcheck", "OnBuild", "Shell", "ArgsEscaped"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """How to test that a container is well. Times are nanoseconds, as in the format; 0 means inherit."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One line of history; `empty_layer` when the step changed no file."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """An image configuration. `None` for entrypoint and cmd means not set, which is not the same as empty."""

    architecture: str = ""
    os: str = "linux"
    variant: str = ""
    created: str = ""
    author: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    user: str = ""
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()
    args_escaped: bool = False
    diff_ids: tuple[str, ...] = ()
    history: tuple[History, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    container_extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def platform(self) -> Platform:
        """The machine that the image is for."""
        return Platform(self.os, self.architecture, self.variant)

    def to_bytes(self) -> bytes:
        """Return the JSON of this configuration; equal values give equal bytes."""
        out: dict[str, Any] = {}
        _put(out, created=self.created, author=self.author)
        out["architecture"] = self.architecture
        out["os"] = self.os
        _put(out, variant=self.variant)
        out["config"] = self._container()
        out["rootfs"] = {"type": "layers", "diff_ids": list(self.diff_ids)}
        _put(out, history=[_history_json(h) for h in self.history])
        return encode({**out, **dict(sorted(self.extra.items()))})

    def _container(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        _put(out, User=self.user, ExposedPorts={p: {} for p in sorted(self.exposed_ports)}, Env=list(self.env))
        if self.entrypoint is not None:
            out["Entrypoint"] = list(self.entrypoint)
        if self.cmd is not None:
            out["Cmd"] = list(self.cmd)
        _put(out, Volumes={v: {} for v in sorted(self.volumes)}, WorkingDir=self.working_dir)
        _put(out, Labels=dict(sorted(self.labels.items())), StopSignal=self.stop_signal, ArgsEscaped=self.args_escaped)
        if self.healthcheck:
            out["Healthcheck"] = _health_json(self.healthcheck)
        _put(out, OnBuild=list(self.on_build), Shell=list(self.shell))
        return {**out, **dict(sorted(self.container_extra.items()))}


def read(data: bytes) -> ImageConfig:
    """Parse an image configuration. Raises ManifestError for what has another shape."""
    raw = load_object(data, "an image configuration")
    c = _mapping(raw, "config")
    rootfs = _mapping(raw, "rootfs")
    health = _mapping(c, "Healthcheck")
    return ImageConfig(
        architecture=text(raw, "architecture"),
        os=text(raw, "os") or "linux",
        variant=text(raw, "variant"),
        created=text(raw, "created"),
        author=text(raw, "author"),
        env=_words(c, "Env") or (),
        entrypoint=_words(c, "Entrypoint"),
        cmd=_words(c, "Cmd"),
        user=text(c, "User"),
        working_dir=text(c, "WorkingDir"),
        labels=strings(c.get("Labels")),
        exposed_ports=tuple(_mapping(c, "ExposedPorts")),
        volumes=tuple(_mapping(c, "Volumes")),
        stop_signal=text(c, "StopSignal"),
        healthcheck=_read_health(health) if health else None,
        on_build=_words(c, "OnBuild") or (),
        shell=_words(c, "Shell") or (),
        args_escaped=c.get("ArgsEscaped") is True,
        diff_ids=tuple(map(dg.checked, _words(rootfs, "diff_ids") or ())),
        history=_read_history(raw.get("history")),
        extra={k: v for k, v in raw.items() if k not in _KNOWN},
        container_extra={k: v for k, v in c.items() if k not in _KNOWN_CONTAINER},
    )


def _put(out: dict[str, Any], **values: Any) -> None:
    out.update((k, v) for k, v in values.items() if v)


def _mapping(d: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = d.get(key) or {}
    if not isinstance(value, dict):
        raise ManifestError(f"{key} of an image configuration is not an object: {value!r:.80}")
    return value


def _words(d: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    value = d.get(key)
    if value is None:
        return None
    if isinstance(value, str):  # very old Docker versions wrote a single word bare
        return (value,)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ManifestError(f"{key} of an image configuration is not a list of strings: {value!r:.80}")
    return tuple(value)


def _read_health(d: Mapping[str, Any]) -> Healthcheck:
    def number(key: str) -> int:
        return d[key] if isinstance(d.get(key), int) else 0

    return Healthcheck(
        test=_words(d, "Test") or (),
        interval=number("Interval"),
        timeout=number("Timeout"),
        start_period=number("StartPeriod"),
        start_interval=number("StartInterval"),
        retries=number("Retries"),
    )


def _health_json(h: Healthcheck) -> dict[str, Any]:
    out: dict[str, Any] = {}
    _put(out, Test=list(h.test), Interval=h.interval, Timeout=h.timeout, StartPeriod=h.start_period)
    _put(out, StartInterval=h.start_interval, Retries=h.retries)
    return out


def _read_history(raw: Any) -> tuple[History, ...]:
    if not isinstance(raw, list):
        return ()
    return tuple(
        History(
            created=text(h, "created"),
            created_by=text(h, "created_by"),
            author=text(h, "author"),
            comment=text(h, "comment"),
            empty_layer=h.get("empty_layer") is True,
        )
        for h in raw
        if isinstance(h, dict)
    )


def _history_json(h: History) -> dict[str, Any]:
    out: dict[str, Any] = {}
    _put(out, created=h.created, created_by=h.created_by, author=h.author, comment=h.comment, empty_layer=h.empty_layer)
    return out
