"""The shape of `configs/pipeline.yaml`: frozen dataclasses with their defaults and limits.

pydantic validates them (ci/config/load.py) and makes the JSON Schema; they are not pydantic models themselves, because a run in which
nothing changed reads the checked configuration back from the cache and must not import pydantic for that. A docstring under a field is its
description in the schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from ci.config.guards import ScanConfig, SecretConfig, TracesConfig
from ci.config.limits import Limits
from ci.config.running import RunConfig, StageConfig
from ci.config.store import StoreConfig
from ci.config.values import STRICT, Seconds, Share, Text, inside, named

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectConfig:
    """The model repository that goes through the pipeline; all paths below are relative to `path`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    path: Text = "."
    """Directory of the subject, relative to the repository root."""
    name: str = ""
    """Name of the image and artefact; the directory's name when empty."""
    source: Text = "src"
    """The service's code, copied into the image last because it changes most often."""
    model: Annotated[tuple[Text, ...], Limits(min_length=1)] = ("config.json", "tokenizer.json", "weights")
    """Files and directories of the model; they lie in the image and in the artefact under these names."""
    lock: Text = "model.lock"
    """JSON that names each file of the model with its size and SHA-256: the model's identity."""
    evals: Text = "evals"
    """Directory with the evaluation suites and what they refer to."""

    def __post_init__(self) -> None:
        for what in ("path", "source", "lock", "evals"):
            inside(getattr(self, what), what)
        for pattern in self.model:
            inside(pattern, "model")
        if self.name:
            named(self.name, "name")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseConfig:
    """The root file system under everything that runs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    image: Text = "docker.io/library/python:3.11-slim"
    """A registry reference, `oci-archive:<path>`, or `host`."""
    fallback: Literal["host", "none"] = "host"
    """What to use when the image cannot be had: a root file system made from the running Python (announced and labelled), or nothing."""
    timeout: Seconds = 10.0
    """How long to wait for a registry's answer before the fallback is taken, in seconds."""
    releases_may_use_host: bool = False
    """Whether a release may be built on the fallback."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """FROM references of a Dockerfile → any of what `image` accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """How the service's image is made."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    requirements: Text = "requirements.txt"
    """The Python lock, with hashes and without an index."""
    entrypoint: Annotated[tuple[str, ...], Limits(min_length=1)] | None = None
    """The command that serves the model; it is executed as it is, without a shell. What a Dockerfile says when null."""
    dockerfile: str = ""
    """The Dockerfile that makes the image; without one it is made of the lock, the model and the code."""
    context: Annotated[tuple[Text, ...], Limits(min_length=1)] = (".",)
    """What the Dockerfile may copy, as patterns; a change there builds again."""
    target: str = ""
    """The stage of the Dockerfile that is the image; the last one when empty."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Values of the Dockerfile's ARG lines."""
    port: Annotated[int, Limits(ge=1, le=65535)] = 8000
    """The port that the service listens on."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the image."""
    user: str = "app"
    """The user that the service runs as."""
    workdir: Text = "/app"
    """Directory in the image that holds the source and the weights."""

    def __post_init__(self) -> None:
        inside(self.requirements, "requirements")
        for pattern in (*filter(None, [self.dockerfile]), *self.context):
            inside(pattern, "dockerfile" if pattern == self.dockerfile else "context")
        if self.entrypoint is None and not self.dockerfile:
            raise ValueError("entrypoint is missing: the command that serves the model (or dockerfile, which has one)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestConfig:
    """How the service's own tests run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    requirements: Text = "requirements-test.txt"
    """The Python lock of the tests, with hashes and without an index."""
    path: Text = "tests"
    """Directory with the tests."""
    args: tuple[str, ...] = ()
    """More arguments for pytest."""
    coverage: str = ""
    """The package whose coverage is measured; nothing is measured when empty."""
    floor: Annotated[float, Limits(ge=0, le=100)] = 85.0
    """Smallest line coverage that passes, in percent."""
    needs: tuple[str, ...] = ()
    """Further files that the tests read, as patterns relative to the subject."""

    def __post_init__(self) -> None:
        inside(self.requirements, "requirements")
        inside(self.path, "path")


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteConfig:
    """One evaluation suite: a JSONL file of samples and the score below which nothing is released."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Text
    """Name of the suite in reports."""
    file: Text
    """JSON Lines, relative to `subject.evals`: id, prompt, expected, and image (a path relative to the file) where there is one."""
    floor: Share
    """Smallest share of right answers that passes."""
    limit: Annotated[int, Limits(ge=1, le=500)] = 500
    """How many samples are sent, from the start of the file."""

    def __post_init__(self) -> None:
        named(self.name, "name")
        inside(self.file, "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How the built image is asked and judged."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    suites: Annotated[tuple[SuiteConfig, ...], Limits(min_length=1)]
    """The suites, in the order of the report."""
    health: Text = "/health"
    """Path that answers 200 when the model is loaded."""
    start_timeout: Seconds = 60.0
    """How long the service may take until it is healthy, in seconds."""
    request_timeout: Seconds = 30.0
    """How long one answer may take, in seconds."""
    concurrency: Annotated[int, Limits(ge=1, le=256)] = 8
    """How many requests are under way at once."""
    max_tokens: Annotated[int, Limits(ge=1, le=65536)] = 32
    """Longest answer that is asked for, in tokens."""
    error_budget: Share = 0.01
    """Share of samples that may end without an answer before the verdict is an infrastructure error."""

    def __post_init__(self) -> None:
        names = [suite.name for suite in self.suites]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two suites are named {name!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageConfig:
    """What the artefact archive holds besides manifest and evaluation report."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    training_summary: str = "training_summary.json"
    """What the training job wrote; empty when there is none."""
    files: tuple[str, ...] = ()
    """Further files, as patterns relative to the subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfig:
    """Where the image and the artefact go."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    target: str | None = None
    """A registry reference without tag (`registry.example/team/model`), or null for an OCI layout in `layout`."""
    layout: Text = ".weighbridge/oci"
    """Directory of the OCI layout, relative to the repository root."""
    tag: str = ""
    """Tag of the image; `latest` when empty."""
    insecure: bool = False
    """Whether a registry that is not on loopback may be spoken to over plain HTTP."""

    def __post_init__(self) -> None:
        inside(self.layout, "layout")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """What the rules in ci/policy.py apply to; that a fork pushes nothing is not for the configuration to change."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    main: Annotated[tuple[Text, ...], Limits(min_length=1)] = ("main",)
    """Branches on which everything runs, as patterns."""
    docs: tuple[Text, ...] = ("docs", "**/*.md", "**/*.rst", "LICENSE*")
    """Documentation, as patterns relative to the repository root; a file that a stage depends on is never documentation."""
    docs_keep: tuple[Text, ...] = ("validate",)
    """Stages that run although only documentation changed."""
    draft_skips: tuple[Text, ...] = ("evaluate",)
    """Stages that the light run of a draft leaves out."""
    hotfix: tuple[Text, ...] = ("hotfix/*",)
    """Branches of hotfixes, as patterns; none when empty."""
    hotfix_skips: tuple[Text, ...] = ("evaluate",)
    """Stages that a hotfix leaves out; it still needs a recorded approval before anything is pushed."""
    approvers: tuple[Text, ...] = ()
    """Who may approve a hotfix, as patterns of `Name <address>`; anybody when empty."""
    waivers: Mapping[str, tuple[Text, ...]] = field(default_factory=lambda: {"skip-full-eval": ("evaluate",)})
    """Label of a pull or merge request → stages that it leaves out."""
    waiver_needs_reason: bool = False
    """Whether a label without a line `<label>: <reason>` in the request's description counts for nothing."""
    releases: tuple[Text, ...] = ("*",)
    """Tags that are releases, as patterns."""
    budget: Annotated[int, Limits(ge=1, le=1440)] = 10
    """Minutes that the run of a pull or merge request may take."""
    hotfix_budget: Annotated[int, Limits(ge=1, le=1440)] = 30
    """Minutes that the run of a hotfix may take."""
    stale_hours: Annotated[int, Limits(ge=1, le=8760)] = 72
    """Hours after which a run advises to merge what a branch has."""
    merged_days: Annotated[int, Limits(ge=0, le=3650)] = 7
    """Days after which a merged branch is to be removed."""
    notice_days: Annotated[int, Limits(ge=0, le=3650)] = 3
    """Days between the announcement of a branch's removal and its removal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that `configs/pipeline.yaml` may say."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    subject: SubjectConfig = field(default_factory=SubjectConfig)
    base: BaseConfig = field(default_factory=BaseConfig)
    engine: Text = "pocket"
    """`pocket`, `dagger`, or a Dagger runner host such as `tcp://engine:8080`."""
    build: BuildConfig
    test: TestConfig = field(default_factory=TestConfig)
    evaluate: EvaluateConfig
    package: PackageConfig = field(default_factory=PackageConfig)
    push: PushConfig = field(default_factory=PushConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    run: RunConfig = field(default_factory=RunConfig)
    stages: Mapping[str, StageConfig] = field(default_factory=dict)
    """Stage → its own limits and what it takes."""
    store: StoreConfig = field(default_factory=StoreConfig)
    scan: ScanConfig = field(default_factory=ScanConfig)
    secrets: Mapping[str, SecretConfig] = field(default_factory=dict)
    """Name of an environment variable → where its value comes from."""
    traces: TracesConfig = field(default_factory=TracesConfig)

    def __post_init__(self) -> None:
        for name in self.secrets:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"a secret is named like an environment variable, got {name!r}")
