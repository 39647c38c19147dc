"""The report in GitLab CI: a collapsed section per stage with its output, and files that GitLab reads in the run's directory: metrics.txt,
weighbridge.env, codequality.json.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from typing import TYPE_CHECKING

from ci.paths import write_atomically
from ci.report import words
from ci.report.colour import paint
from ci.report.evidence import read_json
from ci.report.github import last_lines
from ci.report.outputs import dotenv, metrics
from ci.report.plain import Plain

if TYPE_CHECKING:
    from pathlib import Path

    from ci.record import RunRecord, StageEntry

_LOG_LINES = 500


class GitLab(Plain):
    """Prints what GitLab's log viewer folds."""

    def lines_of(self, entry: StageEntry, record: RunRecord) -> list[str]:
        """Return the section of a stage, and below it, unfolded, its failure."""
        line = paint(words.stage(entry, words.width(record)), entry.status, on=self.colour)
        said = last_lines(record.directory / "logs" / f"{entry.name}.log", _LOG_LINES)
        shown = section(entry, line, said) if said else [line]
        return [*shown, *words.failure(entry, record)]

    def finished(self, record: RunRecord) -> None:
        """Write the files that GitLab reads, and print the last lines."""
        run = record.to_json()
        written = {"metrics.txt": metrics(run), "weighbridge.env": dotenv(run), "codequality.json": code_quality(record.directory)}
        for name, text in written.items():
            try:
                write_atomically(record.directory / name, text.encode())
            except OSError:  # a full disk: the exit code says it
                break
        super().finished(record)


def code_quality(directory: Path) -> str:
    """Return what the scan found in files as a Code Quality report, which GitLab shows in merge requests."""
    severities = {"high": "critical", "medium": "major", "low": "minor"}
    found = [one for one in read_json(directory / "scan.json").get("found") or () if not one["file"].startswith("image:")]
    issues = [
        {
            "description": one["message"],
            "check_name": one["rule"],
            "fingerprint": hashlib.sha256("\0".join((one["rule"], one["file"], one["key"])).encode()).hexdigest(),
            "severity": severities.get(one["severity"], "info"),
            "location": {"path": one["file"], "lines": {"begin": max(one["line"], 1)}},
        }
        for one in found
    ]
    return json.dumps(issues, indent=1) + "\n"


def section(entry: StageEntry, head: str, lines: list[str]) -> list[str]:
    """Return lines as a collapsed section that took as long as the stage."""
    name = f"weighbridge_{re.sub(r'[^A-Za-z0-9_.-]', '_', entry.name)}"
    end = int(time.time())
    return [
        f"\x1b[0Ksection_start:{end - round(entry.seconds)}:{name}[collapsed=true]\r\x1b[0K{head}",
        *lines,
        f"\x1b[0Ksection_end:{end}:{name}\r\x1b[0K",
    ]
