"""The record of one run: `.weighbridge/runs/<id>/` with run.json, plan.json, logs and the files that stages wrote.

It is the only output of a run; every report is made from it. run.json is written anew, whole, whenever something happened, so that a run
that was killed leaves a record of how far it got (its status stays `running`).
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ci import __version__
from ci.errors import InfraError, WeighbridgeError
from ci.hydrate import dehydrate, hydrate
from ci.paths import RUNS, write_atomically
from ci.scrub import Scrubber
from ci.stage import Finding, StageFailed

if TYPE_CHECKING:
    from ci.facts import Facts
    from ci.plan import Plan

Status = Literal["waiting", "running", "passed", "reused", "failed", "skipped", "cancelled"]


@dataclass(slots=True)
class Failure:
    """Why a stage failed, as it is shown and kept."""

    message: str
    exit: int
    hint: str = ""
    tail: str = ""
    findings: tuple[Finding, ...] = ()
    again: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: WeighbridgeError) -> Failure:
        """Take from an error what a reader needs."""
        if isinstance(error, StageFailed):
            return cls(str(error), error.exit, error.hint, error.tail, error.findings, error.again)
        return cls(str(error), error.exit, error.hint, getattr(error, "tail", ""))

    def scrubbed(self, scrubber: Scrubber) -> Failure:
        """Return it without the values of secrets."""
        return hydrate(Failure, scrubber.value(dehydrate(self))) if scrubber else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A try that infrastructure brought to an end, and that was repeated: of a whole stage, or of one request of it."""

    number: int
    seconds: float
    message: str
    hint: str = ""
    again_in: float = 0.0
    """Seconds until the next one, where they are known."""


@dataclass(slots=True, kw_only=True)
class StageEntry:
    """What is known about one stage of the run."""

    name: str
    status: Status = "waiting"
    why: str = ""
    """Why it ran, was reused, skipped or cancelled."""
    summary: str = ""
    detail: str = ""
    started: float = 0.0
    """Seconds since the run started."""
    seconds: float = 0.0
    expected: float = 0.0
    """Seconds that it usually works; 0 when nobody knows."""
    waited: float = 0.0
    """Seconds that it waited for a turn, a GPU or a resource; they are not part of `seconds`."""
    waited_for: str = ""
    gpus: list[str] = field(default_factory=list)
    """UUIDs of the GPUs that were this stage's."""
    attempts: list[Attempt] = field(default_factory=list)
    """What was tried before, in vain."""
    execs: dict[str, int] | None = None
    """How many steps the engine ran and how many it had in its cache; None when nothing told."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """The engine's steps in the order in which they began: `command`, `cached`, `started` and `seconds`."""
    cached: bool = False
    """Whether the stage ran, but every step of it came from the engine's cache."""
    from_run: str = ""
    """For a reused stage: the run that did the work."""
    key: str = ""
    result: dict[str, Any] | None = None
    artifacts: list[str] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def done(self) -> bool:
        """Whether stages that need this one may start."""
        return self.status in {"passed", "reused"}


class StageRecord:
    """The part of a run's record that one stage may write to."""

    def __init__(self, directory: Path, entry: StageEntry) -> None:
        self._directory, self._entry = directory, entry

    def artifact(self, name: str) -> Path:
        """Return the path for a file of this stage, whose parents exist."""
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name not in self._entry.artifacts:
            self._entry.artifacts.append(name)
        return path


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """A run and its directory."""

    root: Path
    id: str
    subject: str
    facts: Facts
    plan: Plan
    stages: dict[str, StageEntry]
    began: float
    status: str = "running"
    exit: int | None = None
    seconds: float = 0.0
    engine: dict[str, str] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
    """`minutes` (0: none), `expected` seconds, `risk` when it was at risk, `spent` (what took the time) when it was exceeded."""
    asked: dict[str, Any] = field(default_factory=dict)
    """The selection that the run was started with."""
    resumed: str = ""
    """The run that this one goes on with."""
    notes: list[str] = field(default_factory=list)
    """What a reader should know besides: a store that did not answer."""
    scrubber: Scrubber = field(default_factory=Scrubber)
    """Takes the values of secrets out of all that is written."""

    @classmethod
    def begin(cls, root: Path, plan: Plan, facts: Facts) -> RunRecord:
        """Make a run directory of its own and write the first record into it."""
        began = time.time()
        stages = {
            stage.name: StageEntry(
                name=stage.name, status="skipped" if stage.do == "skip" else "waiting", why=stage.why, detail=stage.detail
            )
            for stage in plan.stages
        }
        identity = _make_directory(root / RUNS, time.strftime("%Y%m%d-%H%M%S", time.gmtime(began)), plan.commit[:7] or "nogit")
        record = cls(root=root, id=identity, subject=plan.subject, facts=facts, plan=plan, stages=stages, began=began)
        write_atomically(record.directory / "plan.json", plan.to_json().encode())
        record.write()
        _point_latest(record.directory)
        return record

    @property
    def directory(self) -> Path:
        """The run's directory."""
        return self.root / RUNS / self.id

    def passed(self, stage: str) -> Path:
        """Return where what passed of a stage is kept, with its inputs: what another run needs to go on from here."""
        return passed_path(self.directory, stage)

    def log(self, name: str) -> Path:
        """Return where the log of a stage or of the engine goes."""
        path = self.directory / "logs" / f"{name}.log"
        path.parent.mkdir(exist_ok=True)
        return path

    def write(self) -> None:
        """Write run.json, with line breaks when the run is over: the module json takes ten times as long to make them."""
        text = json.dumps(self.to_json(), indent=None if self.exit is None else 1, ensure_ascii=False)
        write_atomically(self.directory / "run.json", text.encode() + b"\n")

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        record = {
            "schema": 1,
            "id": self.id,
            "weighbridge": __version__,
            "subject": self.subject,
            "status": self.status,
            "exit": self.exit,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.began)),
            "seconds": round(self.seconds, 3),
            "facts": dehydrate(self.facts),
            "engine": self.engine,
            "base": self.base,
            "budget": self.budget,
            "asked": self.asked,
            "resumed": self.resumed,
            "notes": self.notes,
            "stages": [_rounded(dehydrate(entry)) for entry in self.stages.values()],
        }
        scrubbed: dict[str, Any] = self.scrubber.value(record)
        return scrubbed


def passed_path(directory: Path, stage: str) -> Path:
    """Return where a run's directory keeps what passed of a stage."""
    return directory / "passed" / f"{stage}.json"


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, **{name: round(entry[name], 3) for name in ("started", "seconds", "expected", "waited")}}


def _make_directory(runs: Path, moment: str, commit: str) -> str:
    for number in range(1, 1000):
        identity = f"{moment}-{commit}" if number == 1 else f"{moment}-{commit}-{number}"
        try:
            (runs / identity).mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InfraError(
                f"the record cannot be written: {error.strerror}", where=str(runs), hint="the run needs to write there"
            ) from error
        return identity
    raise WeighbridgeError("a thousand runs began in one second", where=str(runs))


def _point_latest(directory: Path) -> None:
    link = directory.parent / f".latest.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(directory.name)
    link.replace(directory.parent / "latest")
