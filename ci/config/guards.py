"""Configuration of what guards a run: what the scan looks for and blocks on, the secrets that stages get, where the run's trace goes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from ci.config.limits import Limits
from ci.config.values import STRICT, Text, inside

_ADDRESS = re.compile(r"https?://[^\s@]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanConfig:
    """What is looked for in the change, the image and the locked packages, and what blocks."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    block: Literal["low", "medium", "high", "never"] = "high"
    """Findings of this severity or a higher one fail the stage."""
    baseline: Text = "configs/scan-baseline.json"
    """Accepted findings, each with a reason; relative to the repository root. It need not exist."""
    exclude: tuple[Text, ...] = ()
    """Files in which no secrets are looked for, as patterns relative to the repository root."""
    skip: tuple[Text, ...] = ()
    """Rules that are left out, as bandit and the reports name them: `B101`, `secret:*`."""
    allow_licences: tuple[Text, ...] = ()
    """Licences that packages may have, as patterns of SPDX identifiers; all that are not denied when empty."""
    deny_licences: tuple[Text, ...] = ("AGPL-*", "SSPL-*", "BUSL-*", "CC-BY-NC-*")
    """Licences that no package may have, as patterns of SPDX identifiers."""
    advisories: str = "https://api.osv.dev"
    """A server that speaks the API of OSV, asked about the locked packages; nobody is asked when empty."""

    def __post_init__(self) -> None:
        inside(self.baseline, "baseline")
        if self.advisories and not _ADDRESS.fullmatch(self.advisories):
            raise ValueError(f"advisories must be an http(s) address without credentials, got {self.advisories!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretConfig:
    """Where a secret comes from, and the stages whose steps get it as an environment variable."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    env: str = ""
    """Name of an environment variable of the machine."""
    file: str = ""
    """A file, relative to the repository root, or absolute, or below `~`."""
    command: tuple[Text, ...] = ()
    """A command that prints it, run in the repository root without a shell."""
    stages: Annotated[tuple[Literal["build", "test", "evaluate"], ...], Limits(min_length=1)]
    """`build`: the step that installs requirements, in other stages that are named too; `test`: the tests; `evaluate`: the service."""

    def __post_init__(self) -> None:
        if sum(bool(source) for source in (self.env, self.file, self.command)) != 1:
            raise ValueError("a secret has one source: env, file or command")


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesConfig:
    """Where the run's trace goes: one OTLP request over HTTP at the end, which never fails a run. Forks send none."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    endpoint: str = ""
    """Base address of a collector; the variables `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `OTEL_EXPORTER_OTLP_ENDPOINT` stand above it."""
    deadline: Annotated[float, Limits(gt=0, le=30)] = 3.0
    """Seconds that sending may take at most."""

    def __post_init__(self) -> None:
        if self.endpoint and not _ADDRESS.fullmatch(self.endpoint):
            raise ValueError(f"endpoint must be an http(s) address without credentials, got {self.endpoint!r}")
