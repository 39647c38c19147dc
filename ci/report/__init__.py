"""Renderers: what a person or a CI host sees of a run. They read the record and the runner's events, and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ci.events import Reporter
    from ci.record import RunRecord, StageEntry


def choose(stream: TextIO, environ: Mapping[str, str], *, quiet: bool) -> Reporter:
    """Return a reporter that decides at the first event: a run in which nothing changed needs one line and no rich."""
    return _Chosen(stream, environ, quiet=quiet)


class _Chosen:
    """Hands everything to the report that fits the stream."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str], *, quiet: bool) -> None:
        self._stream, self._environ, self._quiet = stream, environ, quiet
        self._to: Reporter | None = None

    def began(self, record: RunRecord) -> None:
        redraw = self._stream.isatty() and self._environ.get("TERM") != "dumb" and not self._quiet
        self._reporter(redraw=redraw, host=record.facts.host).began(record)

    def engine(self, record: RunRecord) -> None:
        self._reporter().engine(record)

    def base(self, record: RunRecord) -> None:
        self._reporter().base(record)

    def started(self, entry: StageEntry) -> None:
        self._reporter().started(entry)

    def progress(self, entry: StageEntry, line: str) -> None:
        self._reporter().progress(entry, line)

    def noted(self, entry: StageEntry | None, line: str) -> None:
        self._reporter().noted(entry, line)

    def ended(self, entry: StageEntry) -> None:
        self._reporter().ended(entry)

    def finished(self, record: RunRecord) -> None:
        if any(
            entry.status != "reused" for entry in record.stages.values()
        ):  # a run that did nothing has nothing to show, and answers at once
            from ci.report.html import write_quietly

            write_quietly(record.directory, record.root)
        self._reporter(host=record.facts.host).finished(record)

    def _reporter(self, *, redraw: bool = False, host: str = "local") -> Reporter:
        if self._to is None:
            from ci.engine import other_runtime
            from ci.report.colour import wanted

            colour, also = wanted(self._stream, self._environ), other_runtime(self._environ)
            if redraw:
                from ci.report.live import Live

                self._to = Live(self._stream, colour=colour, also=also)
            elif host == "github":
                from ci.report.github import GitHub

                self._to = GitHub(self._stream, environ=self._environ, colour=colour, quiet=self._quiet, also=also)
            elif host == "gitlab":
                from ci.report.gitlab import GitLab

                self._to = GitLab(self._stream, colour=colour, quiet=self._quiet, also=also)
            else:
                from ci.report.plain import Plain

                self._to = Plain(self._stream, colour=colour, quiet=self._quiet, also=also)
        return self._to
