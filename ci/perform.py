"""Carries out one stage at a time: resolves the base once, looks the stage up, runs it with its context, remembers what passed."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio

from ci.hydrate import dehydrate
from ci.memo import Entry, digests_of, write_entry
from ci.record import StageRecord
from ci.stage import Context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import dagger

    from ci.config.model import BaseConfig
    from ci.engine import Session
    from ci.events import Reporter
    from ci.record import RunRecord, StageEntry
    from ci.request import Request
    from ci.schedule import Schedule, Verdict
    from ci.stage import Base, Stage, StageResult
    from ci.telemetry import Telemetry

# How long to wait for what the engine still has to tell about a stage that ended; stages after it do not wait.
_TELLING_SECONDS = 0.5


class Performer:
    """Everything that stages of one run share."""

    def __init__(
        self,
        request: Request,
        *,
        record: RunRecord,
        schedule: Schedule,
        session: Session,
        telemetry: Telemetry,
        reporter: Reporter,
        started: float,
    ) -> None:
        self.request, self.record, self.schedule = request, record, schedule
        self.session, self.telemetry, self.reporter, self.started = session, telemetry, reporter, started
        self.results: dict[str, StageResult] = {}
        self.base_is_due = False
        """Whether stages that use the base wait for it to be resolved anew; otherwise what is remembered holds."""
        self._lookups, self._base_lock = anyio.Lock(), anyio.Lock()
        self._base: Base | None = None

    async def base(self) -> Base:
        """Return the base, resolved once per run: stages of one run never stand on different ones."""
        async with self._base_lock:
            if self._base is None:
                resolve = self.request.resolve_base or _resolve
                self._base = await resolve(self.request.config.base, self.request.root, self.request.cache)
                self.schedule.take_base(self._base)
                self.record.base = {**dehydrate(self._base), "archive": None}
                self.reporter.base(self.record)
            return self._base

    async def look_up(self, stage: Stage) -> Verdict:
        """Say whether a stage whose needs are done can be reused."""
        if self.base_is_due and stage.inputs(self.request.config).base:
            await self.base()
        async with self._lookups:
            return await anyio.to_thread.run_sync(self.schedule.look_up, stage)

    async def perform(self, stage: Stage, entry: StageEntry, verdict: Verdict, passed: anyio.Event) -> None:
        """Run a stage, record what it left, remember it; `passed` is set as soon as stages after it may start."""
        session = await self.session.client() if stage.engine else None  # not the stage's own time
        begun = time.monotonic()
        entry.status, entry.why, entry.started = "running", verdict.why, begun - self.started
        self.record.write()
        self.reporter.started(entry)
        try:
            result = await self._run(stage, entry, verdict, session)
        finally:
            entry.seconds = time.monotonic() - begun
        entry.status, entry.summary, entry.result = "passed", result.summary, result.to_json()
        self.results[stage.name], self.schedule.identities[stage.name] = result, result.identity()
        async with self._lookups:
            await anyio.to_thread.run_sync(self._remember, stage, entry, verdict, result)
        passed.set()
        if stage.engine:
            told = partial(self.telemetry.wait_settled, stage.name, timeout=_TELLING_SECONDS)
            await anyio.to_thread.run_sync(told, abandon_on_cancel=True)
        self.count(entry)

    def count(self, entry: StageEntry) -> None:
        """Take over how many steps the engine ran and had cached."""
        entry.execs, entry.steps = self.telemetry.execs(entry.name), self.telemetry.steps(entry.name)
        entry.cached = entry.status == "passed" and bool(entry.execs) and not (entry.execs or {}).get("ran")

    async def _run(self, stage: Stage, entry: StageEntry, verdict: Verdict, session: dagger.Client | None) -> StageResult:
        module = await anyio.to_thread.run_sync(stage.load)
        uses_base = stage.inputs(self.request.config).base
        context = Context(
            config=self.request.config,
            root=self.request.root,
            subject=self.request.root / self.request.config.subject.path,
            cache=self.request.cache,
            facts=self.request.facts,
            record=StageRecord(self.record.directory, entry),
            progress=lambda line: self.reporter.progress(entry, line),
            extra=self.request.extra.get(stage.name, ()),
            measurement=verdict.measurement,
            session=session,
            resolved_base=await self.base() if uses_base else None,
        )
        needs = {name: self._result(name) for name in stage.needs}
        if not stage.engine:
            return await module.run(context, needs)
        with _current_span(self.telemetry.stage_span(stage.name)):
            return await module.run(context, needs)

    def _result(self, name: str) -> StageResult:
        if name not in self.results:
            kept = self.record.stages[name].result
            self.results[name] = self.request.stages[name].load().Result.from_json(kept or {})
        return self.results[name]

    def _remember(self, stage: Stage, entry: StageEntry, verdict: Verdict, result: StageResult) -> None:
        inputs = verdict.inputs
        if inputs is None or stage.name in self.request.extra or self.schedule.inputs(stage) != inputs:
            # Inputs that were edited while the stage ran may not be the ones that it saw: such a result is not kept.
            return
        entry.key = inputs.key()
        kept = Entry(
            stage=stage.name,
            key=entry.key,
            summary=result.summary,
            result=result.to_json(),
            identity=result.identity(),
            run=self.record.id,
            commit=self.request.facts.commit,
            seconds=entry.seconds,
            inputs=inputs,
            measurement=verdict.measurement,
            artifacts=digests_of(entry.artifacts, self.record.directory),
        )
        write_entry(self.record.passed(stage.name), kept)
        self.schedule.memo.put(kept, self.record.directory)


async def _resolve(config: BaseConfig, root: Path, cache: Path) -> Base:
    from ci.base.choice import resolve

    return await resolve(config, root=root, cache=cache)


@contextlib.contextmanager
def _current_span(identity: bytes) -> Iterator[None]:
    """Make the stage's span the current one: the SDK names it as the parent in each request."""
    from opentelemetry import trace

    context = trace.SpanContext(
        trace_id=int.from_bytes(identity * 2), span_id=int.from_bytes(identity), is_remote=False, trace_flags=trace.TraceFlags(1)
    )
    with trace.use_span(trace.NonRecordingSpan(context), record_exception=False, set_status_on_exception=False):
        yield
