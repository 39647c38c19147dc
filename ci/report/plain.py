"""The report where nothing can be redrawn (CI logs, pipes): one line when a stage starts, one when it ends, one a minute while it works."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TextIO

from ci.report import words
from ci.report.colour import paint

if TYPE_CHECKING:
    from ci.record import RunRecord, StageEntry

_MINUTE = 60.0


class Plain:
    """Prints lines; the head (engine, base, plan) comes first, whatever was known first."""

    def __init__(self, stream: TextIO, *, colour: bool = False, quiet: bool = False, also: str = "") -> None:
        self.stream, self.colour, self.quiet, self.also = stream, colour, quiet, also
        self._lock = threading.RLock()
        self._record: RunRecord | None = None
        self._known: set[str] = set()
        self._held: list[str] = []
        self._later: list[tuple[str, list[str]]] = []
        self._running: dict[str, tuple[StageEntry, float]] = {}
        self._over = threading.Event()

    def began(self, record: RunRecord) -> None:
        """Print the first line."""
        self._record = record
        self._print(words.head(record))
        if not self.quiet:
            threading.Thread(target=self._minutes, name="minutes", daemon=True).start()

    def engine(self, record: RunRecord) -> None:
        """Print the head once it is complete."""
        self._headed("engine", record)

    def base(self, record: RunRecord) -> None:
        """Print the head once it is complete."""
        self._headed("base", record)

    def started(self, entry: StageEntry) -> None:
        """Print that a stage starts, and why."""
        with self._lock:
            self._running[entry.name] = (entry, time.monotonic())
            self._tell(entry, [f" {words.MARKS['running']} {entry.name:<{self._columns()}} {'':>10}   {entry.why}".rstrip()])

    def progress(self, entry: StageEntry, line: str) -> None:
        """Print nothing: the log holds it."""

    def noted(self, entry: StageEntry | None, line: str) -> None:
        """Print what a stage waits for, that it is tried again, or that the budget is at risk."""
        if self.quiet:
            return
        with self._lock:
            if entry is None:
                self._say([f" ! {line}"])
            else:
                self._say([f" {words.MARKS['noted']} {entry.name:<{self._columns()}} {'':>10}   {line}"])

    def ended(self, entry: StageEntry) -> None:
        """Print how a stage ended."""
        with self._lock:
            self._running.pop(entry.name, None)
            assert self._record is not None
            self._tell(entry, self.lines_of(entry, self._record))

    def lines_of(self, entry: StageEntry, record: RunRecord) -> list[str]:
        """Return the lines about a stage that ended, and about its failure."""
        line = paint(words.stage(entry, words.width(record)), entry.status, on=self.colour)
        return [line, *words.failure(entry, record)]

    def finished(self, record: RunRecord) -> None:
        """Print the last lines."""
        self._over.set()
        with self._lock:
            if self._record is None:
                self._print(words.nothing_changed(record))
                return
            for _, lines in self._later:
                self._say(lines)
            if self._held:
                self._flush(record)
            self._print(*words.end(record))

    def _headed(self, part: str, record: RunRecord) -> None:
        with self._lock:
            self._known.add(part)
            if len(self._known) == 2:
                self._flush(record)

    def _flush(self, record: RunRecord) -> None:
        head = [
            *([words.engine(record, self.also)] if "engine" in self._known else []),
            *([words.base(record)] if "base" in self._known else []),
            words.plan(record),
            *words.answers(record),
            "",
        ]
        self._known = {"engine", "base"}
        held, self._held = self._held, []
        self._print(*([] if self.quiet else head), *held)

    def _tell(self, entry: StageEntry, lines: list[str]) -> None:
        """Print a stage's lines after those of the stages it needs: these may still wait for the last words of the engine."""
        if not self.quiet or entry.status == "failed":
            own = [at for at, (name, _) in enumerate(self._later) if name == entry.name]
            self._later.insert(own[-1] + 1 if own else 0, (entry.name, lines))
        assert self._record is not None
        needs = {stage.name: stage.needs for stage in self._record.plan.stages}
        kept = []
        for name, waiting in self._later:
            if any(need in self._running for need in needs[name]):
                kept.append((name, waiting))
            else:
                self._say(waiting)
        self._later = kept

    def _say(self, lines: list[str]) -> None:
        if len(self._known) < 2:
            self._held += lines
        else:
            self._print(*lines)

    def _print(self, *lines: str) -> None:
        # Flushed at once: a CI host shows a line when it comes, and a run that is killed has said what it did.
        print(*lines, sep="\n", end="\n" if lines else "", file=self.stream, flush=True)

    def _columns(self) -> int:
        return words.width(self._record) if self._record else 12

    def _minutes(self) -> None:
        while not self._over.wait(_MINUTE):
            with self._lock:
                now = time.monotonic()
                self._say(
                    [
                        f" … {entry.name:<{self._columns()}} {words.seconds(now - since):>10}   still at work"
                        for entry, since in self._running.values()
                    ]
                )
