"""Carries out one stage at a time: resolves the base once, looks the stage up, waits for its turn, runs it with its context and its time
limit, and remembers what passed.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio

from ci import frozen, gpu
from ci.failures import tail_of
from ci.hydrate import dehydrate
from ci.memo import Entry, digests_of, write_entry
from ci.record import Attempt, StageRecord
from ci.stage import Context, StageFailed
from ci.turns import Turn, Turns, machine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    import dagger

    from ci.engine import Session
    from ci.events import Reporter
    from ci.record import RunRecord, StageEntry
    from ci.request import Request
    from ci.schedule import Schedule, Verdict
    from ci.secrets import Secrets
    from ci.stage import Base, Stage, StageResult
    from ci.telemetry import Telemetry
    from ci.terms import Terms

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
        terms: Mapping[str, Terms],
        weights: Mapping[str, float],
        secrets: Secrets,
    ) -> None:
        self.request, self.record, self.schedule = request, record, schedule
        self.session, self.telemetry, self.reporter, self.secrets = session, telemetry, reporter, secrets
        self.terms, self.weights = terms, weights
        run = request.config.run
        # Where the engine is elsewhere, so are its GPUs, and whoever shares them out.
        pool = partial(machine, run.resources, os.environ, None if request.engine.here else ())
        self.turns = Turns(slots=run.concurrency, run=record.id, pool=pool, patience=run.wait)
        self.results: dict[str, StageResult] = {}
        self.base_is_due = False
        """Whether stages that use the base wait for it to be resolved anew; otherwise what is remembered holds."""
        self._lookups, self._base_lock = anyio.Lock(), anyio.Lock()
        self._base: Base | None = None

    async def base(self) -> Base:
        """Return the base, resolved once per run: stages of one run never stand on different ones."""
        async with self._base_lock:
            if self._base is None:
                self._base = await resolved_base(self.request)
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
        async with self._turn(stage, entry) as turn:
            begun = time.monotonic()
            entry.status, entry.why, entry.started = "running", verdict.why, begun - self.request.started
            self.record.write()
            self.reporter.started(entry)
            worked = 0.0
            try:
                result = await self._in_time(stage, entry, self._context(stage, entry, verdict, session, turn))
            except Exception as error:
                worked = time.monotonic() - begun  # keeping its container is not the stage's work
                await self._keep(stage, entry, error, session)
                raise
            finally:
                entry.seconds = worked or time.monotonic() - begun
                self._scrub_files(entry)
        result = self._scrubbed(result)
        entry.status, entry.summary, entry.result = "passed", result.summary, result.to_json()
        self.results[stage.name], self.schedule.identities[stage.name] = result, result.identity()
        async with self._lookups:
            await anyio.to_thread.run_sync(self._remember, stage, entry, verdict, result)
        passed.set()
        if stage.engine:
            told = partial(self.telemetry.wait_settled, stage.name, timeout=_TELLING_SECONDS)
            await anyio.to_thread.run_sync(told, abandon_on_cancel=True)
        self.count(entry)

    async def _keep(self, stage: Stage, entry: StageEntry, error: Exception, session: dagger.Client | None) -> None:
        """Keep the container of a failed stage, where that was asked for."""
        if not self.request.keep_failed or session is None:
            return
        from ci.keep import archive_of, keep

        if await keep(session, error, archive_of(self.request.cache, self.request.root, stage.name), run=self.record.id):
            self.reporter.noted(entry, f"its container is kept: shell {stage.name}")

    def _scrub_files(self, entry: StageEntry) -> None:
        for name in entry.artifacts:
            self.record.scrubber.file(self.record.directory / name)

    def _scrubbed(self, result: StageResult) -> StageResult:
        """Return a result without the values of secrets: it is shown, and remembered."""
        return type(result).from_json(self.record.scrubber.value(result.to_json())) if self.record.scrubber else result

    def count(self, entry: StageEntry) -> None:
        """Take over how many steps the engine ran and had cached."""
        entry.execs, entry.steps = self.telemetry.execs(entry.name), self.telemetry.steps(entry.name, self.record.began)
        entry.cached = entry.status == "passed" and bool(entry.execs) and not (entry.execs or {}).get("ran")

    @contextlib.asynccontextmanager
    async def _turn(self, stage: Stage, entry: StageEntry) -> AsyncIterator[Turn]:
        """Wait for the stage's turn and for what it takes of the machine."""
        terms = self.terms[stage.name]
        want = terms.want
        if terms.may_want_gpu and self.request.engine.here:
            want = terms.wants_of(len((await self.turns.known()).gpus))
        elif not self.request.engine.here:
            want = replace(want, gpus=0)
        tell = partial(self.reporter.noted, entry)
        weight = self.weights.get(stage.name, 0.0)
        async with self.turns.turn(stage.name, want, model=terms.model, weight=weight, tell=tell) as turn:
            entry.waited, entry.waited_for = entry.waited + turn.waited, turn.waited_for.removeprefix("waits for ") or entry.waited_for
            entry.gpus = [device.uuid for device in turn.gpus]
            yield turn

    async def _in_time(self, stage: Stage, entry: StageEntry, context: Context) -> StageResult:
        """Run a stage, and end it with what it started when it takes too long."""
        limit = self.terms[stage.name].timeout
        with anyio.CancelScope(deadline=anyio.current_time() + limit) as scope:
            try:
                return await self._run(stage, context)
            except Exception:
                if not scope.cancel_called:  # else it is what the stage, or the SDK, made of being stopped
                    raise
        log = self.record.log(stage.name)
        said = tail_of(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else ""
        hint = f"if it needs longer: stages.{stage.name}.timeout in configs/pipeline.yaml, in seconds"
        raise StageFailed(f"took longer than {limit:g} s and was stopped", tail=said, hint=hint)

    def _context(self, stage: Stage, entry: StageEntry, verdict: Verdict, session: dagger.Client | None, turn: Turn) -> Context:
        wanted = self.terms[stage.name].want.gpus
        elsewhere = tuple(str(number) for number in range(0 if self.request.engine.here else wanted))
        return Context(
            config=frozen.untouched(self.request.config) if self.request.selection.frozen else self.request.config,
            root=self.request.root,
            subject=self.request.root / self.request.config.subject.path,
            cache=self.request.cache,
            facts=self.request.facts,
            record=StageRecord(self.record.directory, entry),
            progress=lambda line: self.reporter.progress(entry, self.record.scrubber.text(line)),
            secrets=self.secrets.of(stage.name),
            repeats=partial(self._repeats, entry),
            extra=self.request.extra.get(stage.name, ()),
            measurement=_measurement(entry, verdict),
            gpus=tuple(device.uuid for device in turn.gpus) or elsewhere,
            device=gpu.describe(turn.gpus) or (f"{wanted} of the engine's GPUs" if elsewhere else ""),
            session=session,
        )

    def _repeats(self, entry: StageEntry, line: str) -> None:
        since = max(time.monotonic() - self.request.started - entry.started, 0.0)
        line = self.record.scrubber.text(line)
        entry.attempts.append(Attempt(number=len(entry.attempts) + 1, seconds=round(since, 3), message=line))
        self.reporter.noted(entry, line)

    async def _run(self, stage: Stage, context: Context) -> StageResult:
        module = await anyio.to_thread.run_sync(stage.load)
        if stage.inputs(self.request.config).base:
            context = replace(context, resolved_base=await self.base())
        needs = {name: self._result(name) for name in stage.needs}
        results = {name: result.to_json() for name, result in needs.items()}
        await anyio.to_thread.run_sync(self.schedule.bring, results)
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
            measurement=_measurement(entry, verdict),
            artifacts=digests_of(entry.artifacts, self.record.directory),
        )
        write_entry(self.record.passed(stage.name), kept)
        self.schedule.remember(stage, kept, self.record.directory)


def _measurement(entry: StageEntry, verdict: Verdict) -> str:
    """Return the token of a stage's measurements; a further attempt must not be answered with what the failed one measured."""
    return "-".join([verdict.measurement, *([str(len(entry.attempts))] if entry.attempts else [])])


async def resolved_base(request: Request) -> Base:
    """Return the base that a run's configuration asks for."""
    from ci.base.choice import resolve

    if request.resolve_base:
        return await request.resolve_base(request.config.base, request.root, request.cache)
    return await resolve(request.config.base, root=request.root, cache=request.cache)


@contextlib.contextmanager
def _current_span(identity: bytes) -> Iterator[None]:
    """Make the stage's span the current one: the SDK names it as the parent in each request."""
    from opentelemetry import trace

    context = trace.SpanContext(
        trace_id=int.from_bytes(identity * 2), span_id=int.from_bytes(identity), is_remote=False, trace_flags=trace.TraceFlags(1)
    )
    with trace.use_span(trace.NonRecordingSpan(context), record_exception=False, set_status_on_exception=False):
        yield
