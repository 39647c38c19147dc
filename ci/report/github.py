"""The report in GitHub Actions: a group per stage, an annotation per finding, a step summary, outputs for later steps.

GitHub takes any line that starts with `::` for a command, also when a subject's test prints it; everything that is not ours is therefore
printed between `::stop-commands::` and a token that nobody can guess. Stages run side by side and groups do not nest, so a group is
printed when its stage has ended.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ci.report import words
from ci.report.colour import paint
from ci.report.markdown import summary
from ci.report.outputs import outputs
from ci.report.plain import Plain
from ci.stage import Finding

if TYPE_CHECKING:
    from ci.record import RunRecord, StageEntry

_ANNOTATIONS = 10  # GitHub shows no more of one step
_LOG_LINES = 500
_FIELDS = ("message", "file", "line", "name", "severity")


class GitHub(Plain):
    """Prints what GitHub's log viewer folds and annotates."""

    def __init__(
        self, stream: TextIO, *, environ: Mapping[str, str] | None = None, colour: bool = False, quiet: bool = False, also: str = ""
    ) -> None:
        super().__init__(stream, colour=colour, quiet=quiet, also=also)
        self._environ = os.environ if environ is None else environ

    def lines_of(self, entry: StageEntry, record: RunRecord) -> list[str]:
        """Return the group of a stage, and below it, unfolded, its failure."""
        line = paint(words.stage(entry, words.width(record)), entry.status, on=self.colour)
        said = last_lines(record.directory / "logs" / f"{entry.name}.log", _LOG_LINES)
        shown = [f"::group::{line.strip()}", *_quoted(said), "::endgroup::"] if said else _quoted([line])
        return [*shown, *_quoted(words.failure(entry, record)), *errors_of(entry)]

    def finished(self, record: RunRecord) -> None:
        """Print the last lines; write the step summary and the outputs."""
        super().finished(record)
        _append(self._environ.get("GITHUB_STEP_SUMMARY", ""), summary(record.to_json(), record.directory))
        _append(self._environ.get("GITHUB_OUTPUT", ""), "".join(_output(name, value) for name, value in outputs(record.to_json()).items()))


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a stage's log; none when it has no log."""
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    except OSError:
        return []


def errors_of(entry: StageEntry) -> list[str]:
    """Return an `::error` for each place that a failure names, or one for the stage."""
    problem = entry.failure
    if problem is None:
        return warnings_of(entry)
    places = [found for found in problem.findings if found.file][:_ANNOTATIONS]
    if not places:
        return [f"::error title={_property(entry.name)}::{_data(problem.message)}"]
    return [_annotation("error", found, entry.name) for found in places]


def warnings_of(entry: StageEntry) -> list[str]:
    """Return a `::warning` or `::notice` for each place that a stage found something at and passed all the same."""
    told = (entry.result or {}).get("findings") or ()
    found = [Finding(**{name: one[name] for name in _FIELDS if name in one}) for one in told if isinstance(one, dict)]
    # A place that only the image has is no file that GitHub could show.
    places = [one for one in found if one.file and not one.file.startswith("image:")]
    kinds = [("notice" if one.severity == "low" else "warning", one) for one in places]
    return [_annotation(kind, one, entry.name) for wanted in ("warning", "notice") for kind, one in kinds if kind == wanted][:_ANNOTATIONS]


def _annotation(kind: str, found: Finding, stage: str) -> str:
    place = f"file={_property(found.file)}," + (f"line={found.line}," if found.line else "")
    return f"::{kind} {place}title={_property(found.name or stage)}::{_data(found.message or found.name)}"


def _quoted(lines: Iterable[str]) -> list[str]:
    """Keep lines from being taken for commands, when one of them could be."""
    kept = list(lines)
    if not any("::" in line or "##[" in line for line in kept):
        return kept
    token = f"weighbridge-{secrets.token_hex(16)}"
    return [f"::stop-commands::{token}", *kept, f"::{token}::"]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _output(name: str, value: str) -> str:
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}\n"
    end = f"end-{secrets.token_hex(16)}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def _append(path: str, text: str) -> None:
    """Append to a file that GitHub named; one that cannot be written costs itself alone."""
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return
