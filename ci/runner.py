"""Carries out a plan: stages start as soon as what they need is done, side by side where their inputs allow.

A stage whose inputs are those of an earlier passed run is reused, without a session when no other stage needs one. After a failure nothing
new is started. What is under way is stopped when the failure is the subject's (exit 1 outranks all that could still be found), and
otherwise may end, so that the exit code does not depend on which of two stages was faster. A run that keeps going leaves out only what
needs a failed stage. A signal and an exceeded budget stop everything; the session with all that it started is ended before the run returns.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

from ci.ending import conclude, depends_on
from ci.errors import WeighbridgeError
from ci.exits import SIGNALLED, Exit
from ci.hydrate import dehydrate
from ci.memo import Memo
from ci.record import Failure, RunRecord, StageEntry
from ci.schedule import Schedule, Verdict
from ci.scrub import Stream
from ci.secrets import Secrets, resolve
from ci.terms import terms_of
from ci.traces import collector, note, send

if TYPE_CHECKING:
    from collections.abc import Mapping

    import anyio

    from ci.engine import Session
    from ci.events import Reporter
    from ci.pace import Pace
    from ci.perform import Performer
    from ci.request import Request
    from ci.stage import Stage
    from ci.telemetry import Telemetry

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAY_BE_OUTRANKED = {Exit.BLOCKED, Exit.INFRA, Exit.INCONCLUSIVE, Exit.BUDGET}


def execute(request: Request, reporter: Reporter) -> RunRecord:
    """Carry out the plan; the record says how it ended."""
    run = _Run(request, reporter)
    try:
        if not run.reuse_all():
            _carry_out(run)
    except KeyboardInterrupt:  # it came before the run listened to signals
        run.interrupted(signal.SIGINT)
    return run.finish()


def _carry_out(run: _Run) -> None:
    import anyio

    from ci.branches import advice

    run.reporter.began(run.record)
    for line in advice(run.request.root, run.request.config.policy, run.request.facts):
        run.record.notes.append(line)
        run.reporter.noted(None, line)
    anyio.run(run.work)


class _Run:
    """One run; its state is the record's."""

    def __init__(self, request: Request, reporter: Reporter) -> None:
        self.request, self.reporter = request, reporter
        self.terms = terms_of(request.config, request.stages)
        self.names = [stage.name for stage in request.plan.running()]
        self.schedule = Schedule(
            config=request.config,
            facts=request.facts,
            root=request.root,
            cache=request.cache,
            stages=request.stages,
            memo=Memo(request.cache, request.root, request.store),
            engine=request.engine,
            selection=request.selection,
            resume=request.resume,
        )
        self._learn_base()
        self.verdicts = self.schedule.survey(self.names)  # what is refused here leaves no record
        self.secrets = self._resolved()
        self.record = RunRecord.begin(request.root, request.plan, request.facts)
        self.record.scrubber = self.secrets.scrubber()
        self._streams: dict[str, Stream] = {}
        # None of them is left for the processes that are started from here.
        self._collector = collector(
            request.config.traces, os.environ, permitted=request.plan.permits.secrets and not request.selection.frozen
        )
        extra = {stage: list(given) for stage, given in request.extra.items()}
        self.record.asked = {"selection": dehydrate(request.selection), "extra": extra}
        self.record.resumed = request.resume.id if request.resume else ""
        self.codes: list[int] = []
        self.stopped_by = ""
        self.passed: dict[str, anyio.Event] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._session: Session | None = None
        self._performer: Performer | None = None
        self._pace: Pace | None = None

    def _learn_base(self) -> None:
        """Resolve the base before anything is looked up, where a store may know results of a machine that did."""
        due = any(self.request.stages[name].inputs(self.request.config).base for name in self.names)
        if self.request.store is None or self.schedule.base is not None or not due:
            return
        import anyio

        from ci.perform import resolved_base

        with contextlib.suppress(WeighbridgeError):  # the run says it, where it belongs
            self.schedule.take_base(anyio.run(resolved_base, self.request))

    def _resolved(self) -> Secrets:
        """Read the secrets of a run that has something to do."""
        if not self.request.config.secrets or self._nothing_to_do():
            return Secrets()
        declared, permits = self.request.config.secrets, self.request.plan.permits
        return resolve(declared, root=self.request.root, environ=os.environ, stages=self.names, permitted=permits.secrets)

    def _nothing_to_do(self) -> bool:
        return not self.request.extra and all(verdict.entry for verdict in self.verdicts.values())

    def reuse_all(self) -> bool:
        """Reuse every planned stage, when that is possible."""
        for name, verdict in self.verdicts.items():
            self.record.stages[name].why = verdict.why
        if not self._nothing_to_do():
            return False
        for name, verdict in self.verdicts.items():
            self._reuse(self.record.stages[name], verdict)
        return True

    async def work(self) -> None:
        """Run what has to be run, with a session for as long as that takes."""
        import anyio

        from ci.pace import Pace
        from ci.telemetry import Receiver, Telemetry

        self.passed = {name: anyio.Event() for name in self.names}
        reused = [name for name, verdict in self.verdicts.items() if verdict.entry and name not in self.request.extra]
        pace = self._pace = Pace.of(self.request, self.record, reused=reused, tell=partial(self.reporter.noted, None))
        telemetry = Telemetry(self._output)
        with Receiver(telemetry) as receiver:
            session, performer = self._opened(telemetry, {**receiver.environment(), **self.request.environment}, pace.budget.weights)
            async with anyio.create_task_group() as around:
                await around.start(self._signals)
                around.start_soon(pace.watch, partial(self._stop, "budget", Exit.BUDGET))
                async with anyio.create_task_group() as engine:
                    engine.start_soon(session.serve)
                    await self._stages(session, performer)
                    session.close()
                around.cancel_scope.cancel()
        for entry in self.record.stages.values():
            if entry.seconds:
                performer.count(entry)  # what was told late
        for stage, stream in self._streams.items():
            self._say(stage, stream.close())

    def _opened(self, telemetry: Telemetry, environment: Mapping[str, str], weights: Mapping[str, float]) -> tuple[Session, Performer]:
        """Make the session, which opens when a stage wants it, and what carries out stages with it."""
        from ci.engine import Session
        from ci.perform import Performer

        self._session = Session(
            choice=self.request.engine,
            root=self.request.root,
            log=self.record.log("engine"),
            environment=environment,
            on_death=self._engine_died,
            scrubber=self.record.scrubber,
        )
        self._performer = Performer(
            self.request,
            record=self.record,
            schedule=self.schedule,
            session=self._session,
            telemetry=telemetry,
            reporter=self.reporter,
            terms=self.terms,
            weights=weights,
            secrets=self.secrets,
        )
        return self._session, self._performer

    async def _stages(self, session: Session, performer: Performer) -> None:
        import anyio

        missing = [self.request.stages[name] for name in self.names if name not in self.schedule.identities]
        missing += [self.request.stages[name] for name in self.request.extra]
        # What the survey found is looked up again, because a base that turns out to be another makes it another stage.
        self.schedule.identities.clear()
        async with anyio.create_task_group() as tasks:
            self._scopes[""] = tasks.cancel_scope
            if self.stopped_by:
                tasks.cancel_scope.cancel()
            tasks.start_soon(self._announce, session, performer, missing)
            performer.base_is_due = any(stage.inputs(self.request.config).base for stage in missing)
            for name in self.names:
                scope = self._scopes[name] = anyio.CancelScope()
                tasks.start_soon(self._stage, self.request.stages[name], performer, scope)

    async def _announce(self, session: Session, performer: Performer, missing: list[Stage]) -> None:
        """Open the session and resolve the base as early as possible, and say which they are."""
        if any(stage.engine for stage in missing):
            self.record.engine = await session.named()
        self.reporter.engine(self.record)
        if performer.base_is_due:
            with contextlib.suppress(Exception):
                await performer.base()
        else:
            self.reporter.base(self.record)

    async def _stage(self, stage: Stage, performer: Performer, scope: anyio.CancelScope) -> None:
        from ci.attempts import persist

        entry = self.record.stages[stage.name]
        with scope:
            for need in stage.needs:
                await self.passed[need].wait()
            try:
                await persist(partial(self._once, stage, entry, performer), entry, self.terms[stage.name], self.reporter)
            except Exception as error:  # noqa: BLE001  whatever it is, it ends this stage, and is classified
                from ci.failures import classify

                self._fail(entry, classify(error))
            else:
                self.record.write()
                self.reporter.ended(entry)
            if self._pace:
                self._pace.check()

    async def _once(self, stage: Stage, entry: StageEntry, performer: Performer) -> None:
        """Carry out a stage, or reuse what an earlier run made of it."""
        verdict = await performer.look_up(stage)
        if verdict.entry and stage.name not in self.request.extra:
            self._reuse(entry, verdict)
            self.schedule.identities[stage.name] = verdict.entry.identity
            self.passed[stage.name].set()
        else:
            await performer.perform(stage, entry, verdict, self.passed[stage.name])

    def _reuse(self, entry: StageEntry, verdict: Verdict) -> None:
        found = verdict.entry
        assert found is not None
        self.schedule.memo.leave(found, self.record.passed(entry.name))
        self.schedule.memo.restore(found, self.record.directory)
        self.schedule.memo.point(found)
        entry.status, entry.why = "reused", verdict.why
        entry.summary, entry.result, entry.key, entry.from_run = found.summary, found.result, found.key, found.run
        entry.artifacts = sorted(found.artifacts)

    def _fail(self, entry: StageEntry, error: WeighbridgeError) -> None:
        entry.status, entry.failure = "failed", Failure.of(error).scrubbed(self.record.scrubber)
        entry.summary = self.record.scrubber.text(error.message.splitlines()[0] if error.message else type(error).__name__)
        if self._performer:
            self._performer.count(entry)
        self._stop(entry.name, error.exit, all_of_it=error.exit not in _MAY_BE_OUTRANKED)
        self.record.write()
        self.reporter.ended(entry)

    def _engine_died(self, error: WeighbridgeError) -> None:
        for entry in self.record.stages.values():
            if entry.status == "running":
                self._fail(entry, error)
        self._stop("engine", error.exit)

    def _stop(self, reason: str, code: int, *, all_of_it: bool = True) -> None:
        """Stop what still waits for others, and also what is under way if `all_of_it`; when the run keeps going, what needs `reason`."""
        self.codes.append(code)
        self.stopped_by = self.stopped_by or reason
        for name, scope in self._scopes.items():
            if self.request.keep_going and reason in self._scopes:
                doomed = bool(name) and reason in depends_on(self.record, name)
            else:
                doomed = all_of_it or (bool(name) and not all(self.passed[need].is_set() for need in self.request.stages[name].needs))
            if doomed:
                scope.cancel()

    async def _signals(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Stop the run at the first signal; kill the engine at the second."""
        import anyio

        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            task_status.started()
            asked = False
            async for number in signals:
                if asked and self._session:
                    self._session.kill()
                asked = True
                self.interrupted(number)

    def interrupted(self, number: int) -> None:
        """Stop everything because of a signal."""
        self._stop(f"signal {number}", SIGNALLED + number)

    def _output(self, stage: str, text: str) -> None:
        """Keep and show what a step says; called from the listener's threads."""
        self._say(stage, self._streams.setdefault(stage, Stream(self.record.scrubber)).feed(text))

    def _say(self, stage: str, text: str) -> None:
        if not text:
            return
        with self.record.log(stage).open("a", encoding="utf-8") as log:
            log.write(text)
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            self.reporter.progress(self.record.stages[stage], lines[-1])

    def finish(self) -> RunRecord:
        """Complete the record: what did not happen, and how it all ended."""
        conclude(self.record, self.codes, self.stopped_by)
        self.record.seconds = time.monotonic() - self.request.started
        with contextlib.suppress(OSError):  # full disk: the exit code says it
            self.schedule.save()
            self.record.write()
        self._store()
        self._trace()
        self.reporter.finished(self.record)
        return self.record

    def _trace(self) -> None:
        """Tell the collector of the run; one that cannot be told is noted."""
        if self._collector is None:
            return
        why = send(self.record.to_json(), self.record.directory, self._collector)
        if why:
            self.record.notes.append(note(self._collector, why))
            with contextlib.suppress(OSError):
                self.record.write()

    def _store(self) -> None:
        """Hand the record of a run that did something to the store, and wait for what is still on its way there."""
        store = self.request.store
        if store is None:
            return
        if any(entry.status in {"passed", "failed"} for entry in self.record.stages.values()):
            store.offer_run(self.record.directory)
        store.close()
        if store.notes:
            self.record.notes += store.notes
            with contextlib.suppress(OSError):
                self.record.write()
