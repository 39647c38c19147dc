"""What a run tells while it happens: the interface between the runner and whatever shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ci.record import RunRecord, StageEntry


class Reporter(Protocol):
    """Shows a run while it happens; every method only reads what it is given, and may be called from any thread."""

    def began(self, record: RunRecord) -> None:
        """Note that something has to run; subject, commit and plan are known."""
        ...

    def engine(self, record: RunRecord) -> None:
        """Note that the engine is known, or that none is needed."""
        ...

    def base(self, record: RunRecord) -> None:
        """Note that the base is resolved, or that none is needed."""
        ...

    def started(self, entry: StageEntry) -> None:
        """Note that a stage began to run."""
        ...

    def progress(self, entry: StageEntry, line: str) -> None:
        """Take what a running stage, or a step of it, says."""
        ...

    def noted(self, entry: StageEntry | None, line: str) -> None:
        """Take what a person should know now: what a stage waits for, that it is tried again, that the budget is at risk."""
        ...

    def ended(self, entry: StageEntry) -> None:
        """Note that a stage passed, was reused or failed."""
        ...

    def finished(self, record: RunRecord) -> None:
        """Note that the run is over and its record complete."""
        ...
