"""The contract between the runner and the stages: what a stage is, what it gets, what it returns, and how it fails.

A stage is an async function `run(ctx, needs)` in a module of its own, mostly Dagger SDK code. This module is all of the pipeline that
a stage may know: nothing of the console, of the host CI or of the engine. It imports neither dagger nor anyio, because plans and memo
look-ups read the stages' definitions too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, cast

from ci.errors import InfraError, WeighbridgeError
from ci.exits import Exit
from ci.hydrate import dehydrate, hydrate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dagger

    from ci.config.model import Config
    from ci.facts import Facts

__all__ = [
    "Base",
    "Context",
    "Finding",
    "GateBlocked",
    "InfraError",
    "InputSpec",
    "Stage",
    "StageFailed",
    "StageModule",
    "StageResult",
    "files_of",
]


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a passed stage leaves for the stages after it and for the report; subclasses add typed, JSON-able fields.

    Results outlive the run in the memo, so they hold digests and paths, never objects of the engine.
    """

    # Fields that may differ between two runs with the same outcome (times, counts of cached steps): later stages do not depend on them.
    volatile: ClassVar[frozenset[str]] = frozenset()

    summary: str
    """One line for the terminal: `148 passed · coverage 93.1 % (floor 85)`."""

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return cast("dict[str, Any]", dehydrate(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the result that `to_json` wrote."""
        return hydrate(cls, dict(data))

    def identity(self) -> dict[str, Any]:
        """Return the fields that the keys of later stages hold."""
        return {name: value for name, value in self.to_json().items() if name != "summary" and name not in self.volatile}


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem with a place: shown as `file:line`, and as an annotation where the host CI has them."""

    message: str
    file: str = ""
    line: int = 0
    name: str = ""
    """What found it, such as a test's node id; `again` commands name it."""
    severity: Literal["", "low", "medium", "high"] = ""
    """Of what a scan found."""


class StageFailed(WeighbridgeError):
    """The subject is at fault: its build, its tests, its coverage. Exit 1."""

    def __init__(
        self,
        message: str,
        *,
        tail: str = "",
        findings: Sequence[Finding] = (),
        hint: str = "",
        again: Sequence[str] = (),
        exit: Exit = Exit.FAILED,  # noqa: A002
        container: dagger.Container | None = None,
    ) -> None:
        """`tail` is shown as it is (the program's own last words); `again` are the arguments after `--only <stage> --` for just this;
        `container` is the one that somebody may want to look into.
        """
        super().__init__(message, hint=hint, exit=exit)
        self.tail = tail
        self.findings = tuple(findings)
        self.again = tuple(again)
        self.container = container


class GateBlocked(StageFailed):
    """The stage worked and its verdict is no. Exit 3."""

    def __init__(
        self, message: str, *, tail: str = "", findings: Sequence[Finding] = (), hint: str = "", again: Sequence[str] = ()
    ) -> None:
        super().__init__(message, tail=tail, findings=findings, hint=hint, again=again, exit=Exit.BLOCKED)


@dataclass(frozen=True, slots=True)
class Base:
    """A resolved base: what every container starts from. `ci.base.choice.resolve` makes it; the memo keeps it as JSON."""

    kind: Literal["image", "archive", "host"]
    wanted: str
    """What the configuration asks for."""
    identity: str
    """Content identity that keys hold: an image digest, an archive's digest, or the fingerprint of the host's root file system."""
    description: str
    """For people: `python 3.11.7 root file system`, `docker.io/library/python:3.11-slim`."""
    archive: Path | None = None
    """OCI archive to import, for kinds `archive` and `host`."""
    reference: str = ""
    """Reference by digest, for kind `image`."""
    tried: tuple[str, ...] = ()
    """What was not used and why: `docker.io/library/python:3.11-slim: no route (2 s)`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of every image made from it."""


class Record(Protocol):
    """The part of a run's record that a stage may write to."""

    def artifact(self, name: str) -> Path:
        """Return the path in the run directory for `name` (`junit.xml`, `coverage.xml`, `samples.jsonl`, `gate.json`); parents exist."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every stage gets."""

    config: Config
    root: Path
    """The repository root."""
    subject: Path
    """The subject's directory, absolute."""
    cache: Path
    """The cache root; `cache / "artifacts"` holds content-addressed results such as image archives."""
    facts: Facts
    record: Record
    progress: Callable[[str], None]
    """Shows one live line for this stage; never part of the result."""
    repeats: Callable[[str], None] = lambda _line: None
    """Takes note of a request that is tried again because infrastructure failed it: shown, and kept in the record."""
    extra: tuple[str, ...] = ()
    """Arguments after `--` on the command line, for the one stage named with `--only`."""
    measurement: str = ""
    """Part of the keys of steps that measure: they run again in every run of the stage, unless it is the one of a run that passed."""
    gpus: tuple[str, ...] = ()
    """The GPUs that are this stage's for as long as it works, as `experimental_with_gpu` takes them; without any, it has none."""
    device: str = ""
    """The names of these GPUs; empty when it has none."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Name → value of the secrets that this stage may hand to its steps."""
    session: dagger.Client | None = None
    resolved_base: Base | None = None

    @property
    def dag(self) -> dagger.Client:
        """The Dagger client of this run."""
        if self.session is None:
            raise InfraError("this stage declared that it needs no engine, and asked for one", lasting=True)
        return self.session

    @property
    def base(self) -> Base:
        """The resolved base image."""
        if self.resolved_base is None:
            raise InfraError("this stage declared that it needs no base image, and asked for one", lasting=True)
        return self.resolved_base

    def artifacts(self, digest: str, suffix: str = ".tar") -> Path:
        """Return where the artefact with `digest` (`sha256:…`) lies or shall be put, in the cache."""
        directory = self.cache / "artifacts"
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"{digest.removeprefix('sha256:')}{suffix}"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a stage's outcome depends on besides the results of the stages it needs and the pipeline's own code.

    A stage sees only what it declares: two runs with equal inputs share one memo entry, and nothing else is looked at.
    """

    files: tuple[str, ...] = ()
    """Patterns relative to the repository root: a file, a directory (everything below it), or a glob with `*`, `?` and `**`."""
    exclude: tuple[str, ...] = ()
    """Patterns of files that do not count. `__pycache__`, `.git`, caches of tools and `.weighbridge` never do."""
    config: tuple[str, ...] = ()
    """Dotted keys of the configuration: `build`, `evaluate.suites`."""
    base: bool = True
    """Whether the base image counts; the runner resolves it only for stages that say so."""
    facts: tuple[str, ...] = ()
    """Names of fields of `Facts` that count, such as `commit`; each makes the stage run again when it changes."""
    change: bool = False
    """Whether the files of the change count, see ci/change.py; documentation does not."""
    tools: tuple[str, ...] = ()
    """Installed Python packages whose versions count, for stages that work in this process and not in a container."""


class StageModule(Protocol):
    """A stage's implementation, imported only when the stage really runs or a later one needs its result."""

    Result: type[StageResult]

    async def run(self, ctx: Context, needs: Mapping[str, Any]) -> StageResult:
        """Do the work; raise `StageFailed`, `GateBlocked` or `InfraError`."""
        ...


def _always(_result: Mapping[str, Any], _config: Config, _root: Path, _cache: Path) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage's definition. `ci.stages.STAGES` holds them in the order of the report."""

    name: str
    inputs: Callable[[Config], InputSpec]
    module: str | StageModule
    """Import path such as `ci.stages.build`, with `run` and `Result`."""
    needs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Needs whose results it can do without, where policy skips them and somebody answers for that."""
    engine: bool = True
    """Whether the stage needs an engine at all."""
    gpu: bool = False
    """Whether the stage takes a GPU where the machine has one; the configuration may ask for more, or for none."""
    gone: Callable[[Mapping[str, Any], Config, Path, Path], str] = _always
    """`gone(result JSON, config, root, cache)`: why a remembered result cannot be reused (its artefact is missing), or an empty string.

    Called on the path of a run in which nothing changed, in a thread or before any event loop: import what is slow only when it is needed.
    """
    archives: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda _result: ()
    """`archives(result JSON)`: digests of the images that the result stands for and that lie in the cache; a store keeps them too."""
    describe: Callable[[Config], str] = lambda _config: ""
    """What the plan shows after the name: push shows where to (`→ .weighbridge/oci`)."""

    def load(self) -> StageModule:
        """Import the implementation."""
        return cast("StageModule", import_module(self.module)) if isinstance(self.module, str) else self.module


def files_of(config: Config, *patterns: str) -> tuple[str, ...]:
    """Return patterns relative to the subject as patterns relative to the repository root."""
    prefix = "" if config.subject.path in {"", "."} else config.subject.path.rstrip("/") + "/"
    return tuple(prefix + pattern for pattern in patterns)
