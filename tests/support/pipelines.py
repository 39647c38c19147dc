"""Small pipelines of real async functions over a small repository: the runner without an engine."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ci.config.load import load
from ci.config.model import BaseConfig, Config
from ci.engine import EngineChoice
from ci.facts import Facts
from ci.plan import make_plan
from ci.record import RunRecord, StageEntry
from ci.remote import Remote
from ci.request import Request
from ci.resume import Resumed
from ci.runner import execute
from ci.selection import Selection
from ci.stage import Base, Context, InputSpec, Stage, StageResult

CONFIG = """\
subject: {path: service, name: small}
build: {entrypoint: [python, -m, service]}
evaluate:
  suites:
    - {name: text, file: text.jsonl, floor: 0.5}
"""

Work = Callable[[Context, Mapping[str, Any]], Awaitable[StageResult]]


@dataclass(frozen=True, slots=True)
class Done(StageResult):
    """A result with something that later stages depend on."""

    digest: str = ""


@dataclass(slots=True)
class Implementation:
    """A stage's implementation, as its module would be."""

    work: Work
    Result: type[StageResult] = Done

    async def run(self, ctx: Context, needs: Mapping[str, Any]) -> StageResult:
        return await self.work(ctx, needs)


@dataclass(slots=True)
class Seen:
    """A reporter that keeps what it was told, in order."""

    events: list[tuple[str, str]] = field(default_factory=list)

    def began(self, record: RunRecord) -> None:
        self.events.append(("began", record.subject))

    def engine(self, record: RunRecord) -> None:
        self.events.append(("engine", record.engine.get("engine", "")))

    def base(self, record: RunRecord) -> None:
        self.events.append(("base", record.base.get("kind", "")))

    def started(self, entry: StageEntry) -> None:
        self.events.append(("started", entry.name))

    def progress(self, entry: StageEntry, line: str) -> None:
        self.events.append(("progress", f"{entry.name}: {line}"))

    def noted(self, entry: StageEntry | None, line: str) -> None:
        self.events.append(("noted", f"{entry.name}: {line}" if entry else line))

    def ended(self, entry: StageEntry) -> None:
        self.events.append((entry.status, entry.name))

    def finished(self, record: RunRecord) -> None:
        self.events.append(("finished", record.status))


def stage(name: str, work: Work, *, needs: tuple[str, ...] = (), files: tuple[str, ...] = (), **options: Any) -> Stage:
    """Make a stage that needs neither engine nor base unless it is told so."""
    options.setdefault("engine", False)
    spec = InputSpec(files=files, config=options.pop("config", ()), base=options.pop("base", False))
    return Stage(name=name, inputs=lambda _: spec, module=Implementation(work), needs=needs, **options)


def passing(summary: str = "fine", digest: str = "") -> Work:
    """Make a stage's work that passes at once."""

    async def work(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        return Done(summary, digest)

    return work


@dataclass(slots=True)
class Pipeline:
    """A repository with a configuration, and what is done with it."""

    root: Path
    cache: Path
    stages: dict[str, Stage] = field(default_factory=dict)
    facts: Facts = field(default_factory=lambda: Facts(commit="0123456789abcdef"))
    base: str = "base-1"
    engine: EngineChoice = field(default_factory=lambda: EngineChoice(kind="pocket"))

    @classmethod
    def at(cls, place: Path) -> Pipeline:
        """Make the repository in a directory."""
        root = place / "repository"
        (root / "service").mkdir(parents=True)
        (root / "configs").mkdir()
        (root / "configs" / "pipeline.yaml").write_text(CONFIG)
        (root / "service" / "main.py").write_text("print('hello')\n")
        return cls(root, place / "cache")

    @property
    def config(self) -> Config:
        return load(self.root / "configs" / "pipeline.yaml")

    def add(self, name: str, work: Work, **options: Any) -> None:
        """Add a stage."""
        self.stages[name] = stage(name, work, **options)

    def request(
        self,
        *,
        only: tuple[str, ...] = (),
        extra: Mapping[str, tuple[str, ...]] | None = None,
        selection: Selection | None = None,
        resume: Resumed | None = None,
        store: Remote | None = None,
    ) -> Request:
        """Give what would be run."""
        selection = selection or Selection(only=only)
        return Request(
            config=self.config,
            facts=self.facts,
            plan=make_plan(self.config, self.facts, self.stages, selection=selection),
            stages=self.stages,
            root=self.root,
            cache=self.cache,
            engine=self.engine,
            extra=extra or {},
            selection=selection,
            resume=resume,
            store=store,
            resolve_base=self._resolve,
        )

    def run(self, seen: Seen | None = None, **options: Any) -> RunRecord:
        """Carry it out; `options` are those of `request`."""
        return execute(self.request(**options), seen or Seen())

    async def _resolve(self, _config: BaseConfig, _root: Path, _cache: Path) -> Base:
        return Base(kind="host", wanted="some/image", identity=self.base, description="a base", tried=("some/image: no route",))


def statuses(record: RunRecord) -> dict[str, str]:
    """Give stage → status."""
    return {name: entry.status for name, entry in record.stages.items()}


def git(root: Path, *arguments: str) -> str:
    """Run git as somebody."""
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def commits(root: Path) -> Iterator[str]:
    """Commit everything, again each time it is asked."""
    git(root, "init", "--quiet")
    number = 0
    while True:
        number += 1
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--allow-empty", f"--message=change {number}")
        yield git(root, "rev-parse", "HEAD")
