"""Carries out a plan: stages start as soon as what they need is done, side by side where their inputs allow.

A stage whose inputs are those of an earlier passed run is reused, without a session when no other stage needs one. After a failure nothing
new is started. What is under way is stopped when the failure is the subject's (exit 1 outranks all that could still be found), and
otherwise may end, so that the exit code does not depend on which of two stages was faster. A signal stops everything; the session with all
that it started is ended before the run returns.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

from ci.exits import SIGNALLED, Exit, worst
from ci.hydrate import dehydrate
from ci.memo import Memo, write_entry
from ci.record import Failure, RunRecord, StageEntry
from ci.schedule import Schedule, Verdict

if TYPE_CHECKING:
    import anyio

    from ci.engine import Session
    from ci.errors import WeighbridgeError
    from ci.events import Reporter
    from ci.perform import Performer
    from ci.request import Request
    from ci.stage import Stage

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MAY_BE_OUTRANKED = {Exit.BLOCKED, Exit.INFRA, Exit.INCONCLUSIVE, Exit.BUDGET}
_OUTCOMES = {
    Exit.PASSED: "passed",
    Exit.FAILED: "failed",
    Exit.USAGE: "usage",
    Exit.BLOCKED: "blocked",
    Exit.INCONCLUSIVE: "inconclusive",
    Exit.INFRA: "infra",
    Exit.BUDGET: "budget",
}


def execute(request: Request, reporter: Reporter) -> RunRecord:
    """Carry out the plan; the record says how it ended."""
    run = _Run(request, reporter)
    if not run.reuse_all():
        import anyio

        reporter.began(run.record)
        anyio.run(run.work)
    return run.finish()


class _Run:
    """One run; its state is the record's."""

    def __init__(self, request: Request, reporter: Reporter) -> None:
        self.request, self.reporter = request, reporter
        self.started = request.started
        self.names = [stage.name for stage in request.plan.running()]
        self.schedule = Schedule(
            config=request.config,
            facts=request.facts,
            root=request.root,
            cache=request.cache,
            stages=request.stages,
            memo=Memo(request.cache, request.root),
            engine=request.engine,
            selection=request.selection,
            resume=request.resume,
        )
        self.verdicts = self.schedule.survey(self.names)  # what is refused here leaves no record
        self.record = RunRecord.begin(request.root, request.plan, request.facts)
        extra = {stage: list(given) for stage, given in request.extra.items()}
        self.record.asked = {"selection": dehydrate(request.selection), "extra": extra}
        self.record.resumed = request.resume.id if request.resume else ""
        self.codes: list[int] = []
        self.stopped_by = ""
        self.passed: dict[str, anyio.Event] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._session: Session | None = None
        self._performer: Performer | None = None

    def reuse_all(self) -> bool:
        """Reuse every planned stage, when that is possible."""
        for name, verdict in self.verdicts.items():
            self.record.stages[name].why = verdict.why
        if self.request.extra or not all(verdict.entry for verdict in self.verdicts.values()):
            return False
        for name, verdict in self.verdicts.items():
            self._reuse(self.record.stages[name], verdict)
        return True

    async def work(self) -> None:
        """Run what has to be run, with a session for as long as that takes."""
        import anyio

        from ci.engine import Session
        from ci.perform import Performer
        from ci.telemetry import Receiver, Telemetry

        self.passed = {name: anyio.Event() for name in self.names}
        telemetry = Telemetry(self._output)
        with Receiver(telemetry) as receiver:
            self._session = session = Session(
                choice=self.request.engine,
                root=self.request.root,
                log=self.record.log("engine"),
                environment=receiver.environment(),
                on_death=self._engine_died,
            )
            self._performer = performer = Performer(
                self.request,
                record=self.record,
                schedule=self.schedule,
                session=session,
                telemetry=telemetry,
                reporter=self.reporter,
                started=self.started,
            )
            async with anyio.create_task_group() as around:
                await around.start(self._signals)
                async with anyio.create_task_group() as engine:
                    engine.start_soon(session.serve)
                    await self._stages(session, performer)
                    session.close()
                around.cancel_scope.cancel()
        for entry in self.record.stages.values():
            if entry.seconds:
                performer.count(entry)  # what was told late

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
        entry = self.record.stages[stage.name]
        with scope:
            for need in stage.needs:
                await self.passed[need].wait()
            try:
                verdict = await performer.look_up(stage)
                if verdict.entry and stage.name not in self.request.extra:
                    self._reuse(entry, verdict)
                    self.schedule.identities[stage.name] = verdict.entry.identity
                    self.passed[stage.name].set()
                else:
                    await performer.perform(stage, entry, verdict, self.passed[stage.name])
            except Exception as error:  # noqa: BLE001  whatever it is, it ends this stage, and is classified
                from ci.failures import classify

                self._fail(entry, classify(error))
            else:
                self.record.write()
                self.reporter.ended(entry)

    def _reuse(self, entry: StageEntry, verdict: Verdict) -> None:
        found = verdict.entry
        assert found is not None
        write_entry(self.record.passed(entry.name), found)
        self.schedule.memo.restore(found, self.record.directory)
        self.schedule.memo.point(found)
        entry.status, entry.why = "reused", verdict.why
        entry.summary, entry.result, entry.key, entry.from_run = found.summary, found.result, found.key, found.run
        entry.artifacts = sorted(found.artifacts)

    def _fail(self, entry: StageEntry, error: WeighbridgeError) -> None:
        entry.status, entry.failure = "failed", Failure.of(error)
        entry.summary = error.message.splitlines()[0] if error.message else type(error).__name__
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
        """Stop what still waits for others, and also what is under way if `all_of_it`."""
        self.codes.append(code)
        self.stopped_by = self.stopped_by or reason
        for name, scope in self._scopes.items():
            if all_of_it or (name and not all(self.passed[need].is_set() for need in self.request.stages[name].needs)):
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
                self._stop(f"signal {number}", SIGNALLED + number)

    def _output(self, stage: str, text: str) -> None:
        """Keep and show what a step says; called from the listener's threads."""
        with self.record.log(stage).open("a", encoding="utf-8") as log:
            log.write(text)
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            self.reporter.progress(self.record.stages[stage], lines[-1])

    def finish(self) -> RunRecord:
        """Complete the record: what did not happen, and how it all ended."""
        code = worst(self.codes)
        for entry in self.record.stages.values():
            if entry.status == "running":
                entry.status, entry.why = "cancelled", f"stopped: {self._reason()}"
            elif entry.status == "waiting":
                entry.status, entry.why = "skipped", f"not run: {self._reason()}"
        self.record.exit = code
        self.record.status = "interrupted" if code > SIGNALLED else _OUTCOMES.get(Exit(code), "") if code in set(Exit) else "bug"
        self.record.seconds = time.monotonic() - self.started
        with contextlib.suppress(OSError):  # full disk: the exit code says it
            self.schedule.save()
            self.record.write()
        self.reporter.finished(self.record)
        return self.record

    def _reason(self) -> str:
        if self.stopped_by in self.record.stages:
            return f"{self.stopped_by} failed"
        return "the engine ended" if self.stopped_by == "engine" else "interrupted"
