"""The report on a terminal: one row per stage in the order of the plan, redrawn in place; failures and the end below it."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group
from rich.live import Live as Display
from rich.text import Text

from ci.report import words
from ci.report.colour import paint

if TYPE_CHECKING:
    from ci.record import RunRecord, StageEntry

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Live:
    """Draws the run; rich calls `__rich__` ten times a second, the runner tells what happens."""

    def __init__(self, stream: TextIO, *, colour: bool, also: str = "") -> None:
        self._console = Console(file=stream, no_color=not colour, highlight=False, soft_wrap=False)
        self._colour, self._also = colour, also
        self._lock = threading.RLock()
        self._record: RunRecord | None = None
        self._display: Display | None = None
        self._engine = self._base = ""
        self._over = False
        self._said: dict[str, str] = {}
        self._notes: list[str] = []
        self._begun: dict[str, float] = {}

    def began(self, record: RunRecord) -> None:
        """Start drawing."""
        self._record = record
        self._console.print(Text(words.head(record)), soft_wrap=True)
        self._display = Display(self, console=self._console, refresh_per_second=10, redirect_stdout=False, redirect_stderr=False)
        self._display.start()

    def engine(self, record: RunRecord) -> None:
        """Show the engine."""
        self._engine = words.engine(record, self._also)

    def base(self, record: RunRecord) -> None:
        """Show the base."""
        self._base = words.base(record)

    def started(self, entry: StageEntry) -> None:
        """Start a stage's clock."""
        with self._lock:
            self._begun[entry.name] = time.monotonic()
            self._said[entry.name] = entry.why

    def progress(self, entry: StageEntry, line: str) -> None:
        """Show a stage's last words."""
        with self._lock:
            self._said[entry.name] = line.strip()

    def noted(self, entry: StageEntry | None, line: str) -> None:
        """Show what a stage waits for in its row, and what concerns the whole run above the rows."""
        with self._lock:
            if entry is None:
                self._notes.append(line)
            else:
                self._said[entry.name] = line

    def ended(self, entry: StageEntry) -> None:
        """Redraw at once."""
        if self._display:
            self._display.refresh()

    def finished(self, record: RunRecord) -> None:
        """Leave the last state on the screen, with the failures and the end below it."""
        if self._display is None:
            self._console.print(Text(words.nothing_changed(record)), soft_wrap=True)
            return
        self._over = True
        self._display.stop()
        for entry in record.stages.values():
            for line in words.failure(entry, record):
                self._console.print(Text(line), soft_wrap=True)
        for line in words.end(record):
            self._console.print(Text(line), soft_wrap=True)

    def __rich__(self) -> Group:
        """Return the rows."""
        assert self._record is not None
        with self._lock:
            frame = _FRAMES[int(time.monotonic() * 10) % len(_FRAMES)]
            waiting = "" if self._over else frame
            head = [
                self._engine or f"engine   {waiting}",
                self._base or f"base     {waiting}",
                words.plan(self._record),
                *words.answers(self._record),
            ]
            lines = [*(line for line in head if line.split()[1:]), *(f"note     {note}" for note in self._notes), ""]
            lines += [self._row(entry, frame) for entry in self._record.stages.values() if not words.unasked(entry.why)]
        return Group(*(Text.from_ansi(line, no_wrap=True, overflow="ellipsis") for line in lines))

    def _row(self, entry: StageEntry, frame: str) -> str:
        assert self._record is not None
        columns = words.width(self._record)
        if entry.status == "running":
            took = words.seconds(time.monotonic() - self._begun.get(entry.name, time.monotonic()))
            line = f" {frame} {entry.name:<{columns}} {took:>10}   {self._said.get(entry.name, '')}"
        elif entry.status in {"waiting", "skipped", "cancelled"}:
            said = self._said.get(entry.name, "") if entry.status == "waiting" else entry.why
            line = f" {words.MARKS[entry.status]} {entry.name:<{columns}} {'':>10}   {said}"
        else:
            line = words.stage(entry, columns)
        return paint(line, entry.status, on=self._colour)


def fits(stream: TextIO) -> bool:
    """Tell whether redrawing makes sense: a terminal with a few rows."""
    import shutil

    return stream.isatty() and shutil.get_terminal_size().lines > 15 and sys.platform != "win32"
