"""evaluate: starts the built image as a service, asks it every sample of the suites from a client container, and judges the answers.

The client (ci/evalclient) knows nothing of floors and the gate (ci/gate.py) nothing of servers. Only what the model answered can block;
what the machine did to the samples is an infrastructure error.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import dagger
from dagger import ReturnType

from ci import gate
from ci.base import choice
from ci.evalclient import PROGRAM
from ci.stage import Context, GateBlocked, InfraError, StageFailed, StageResult
from ci.stages import common
from ci.stages.common import host_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

_SEED = 20240229
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class SuiteScore:
    """One suite's outcome, without anything that differs between two runs of the same image."""

    name: str
    score: float
    floor: float
    samples: int
    truncated: int


@dataclass(frozen=True, slots=True)
class Result(StageResult):
    """The verdict and what it rests on."""

    volatile: ClassVar[frozenset[str]] = frozenset({"device", "seconds"})

    image: str
    model: str
    suites: tuple[SuiteScore, ...]
    answers: str
    """Digest of all answers and scores."""
    device: str
    seconds: float


async def run(ctx: Context, needs: Mapping[str, Any]) -> Result:
    """Ask, judge, record."""
    shown = ctx.device or "CPU (no GPU)"
    ctx.progress(shown)
    summary = await _ask(ctx, needs["build"].digest)
    samples = gate.read_samples(ctx.record.artifact("samples.jsonl"))
    verdicts = _judge(ctx, samples, summary["planned"])
    ctx.record.artifact("gate.json").write_text(
        common.json_of({"verdict": gate.overall(verdicts), "suites": [asdict(verdict) for verdict in verdicts]}), encoding="utf-8"
    )
    _stop_unless_passed(verdicts, samples, summary["gone"])
    scores = tuple(SuiteScore(v.name, round(v.score, 6), v.floor, v.planned, v.truncated) for v in verdicts)
    rate = len(samples) / summary["seconds"] if summary["seconds"] else 0.0
    said = " · ".join(f"{score.name} {score.score:.3f} (floor {score.floor:g})" for score in scores)
    return Result(
        f"{said} · {len(samples)} samples, {rate:.0f}/s · {shown}",
        image=needs["build"].digest,
        model=summary["model"],
        suites=scores,
        answers=answers_digest(samples),
        device=shown,
        seconds=summary["seconds"],
    )


async def _ask(ctx: Context, image: str) -> dict[str, Any]:
    """Run service and client; leaves samples.jsonl in the record and returns the client's summary."""
    try:
        client = await _client(ctx, _service(ctx, image)).sync()
        with tempfile.TemporaryDirectory(dir=ctx.cache) as scratch:
            await client.directory("/out").export(scratch)
            summary: dict[str, Any] = json.loads(Path(scratch, "summary.json").read_bytes())
            ctx.record.artifact("samples.jsonl").write_bytes(Path(scratch, "samples.jsonl").read_bytes())
    except dagger.QueryError as error:
        raise _blame(error) from error
    if not any(summary["planned"].values()) or (summary["gone"] and not summary["model"] and not summary["asked"]):
        raise StageFailed(summary["gone"] or "no samples were sent", hint="run the entrypoint by hand: does it answer its health path?")
    return summary


def _service(ctx: Context, image: str) -> dagger.Service:
    """Start the built image as it will be started everywhere: by its own entrypoint."""
    container = ctx.dag.container().import_(ctx.dag.host().file(str(ctx.artifacts(image)))).with_exposed_port(ctx.config.build.port)
    container = container.with_(common.with_secrets(ctx, ctx.secrets))
    if ctx.gpus:
        container = container.experimental_with_gpu(list(ctx.gpus))
    return container.as_service(use_entrypoint=True)


def _client(ctx: Context, service: dagger.Service) -> dagger.Container:
    evaluate = ctx.config.evaluate
    job = {
        "base_url": f"http://model:{ctx.config.build.port}",
        "health": evaluate.health,
        "directory": "/evals",
        "suites": [{"name": suite.name, "file": suite.file, "limit": suite.limit} for suite in evaluate.suites],
        "start_timeout": evaluate.start_timeout,
        "request_timeout": evaluate.request_timeout,
        "concurrency": evaluate.concurrency,
        "max_tokens": evaluate.max_tokens,
        "seed": _SEED,
    }
    return (
        common.once(ctx, choice.container(ctx.dag, ctx.base))
        .with_service_binding("model", service)
        .with_mounted_directory("/evals", host_tree(ctx, ctx.subject / ctx.config.subject.evals))
        .with_mounted_file("/client.py", ctx.dag.host().file(str(PROGRAM)))
        .with_new_file("/job.json", common.json_of(job))
        .with_exec(["python3", "/client.py", "/job.json", "/out"], expect=ReturnType.ANY)
    )


def _blame(error: dagger.QueryError) -> Exception:
    """Tell a service that cannot start, which is the subject's fault, from one that went away, which is the machine's."""
    message = str(error)
    if message.startswith("start ") or "service exited before" in message:
        tail = error.stderr.strip() or error.stdout.strip() if isinstance(error, dagger.ExecError) else ""
        return StageFailed(f"the service does not start: {message}", tail=tail, hint="run the entrypoint by hand")
    return InfraError(f"the evaluation was cut off: {message}", hint="run again; the built image is kept")


def _judge(ctx: Context, samples: list[gate.Sample], planned: Mapping[str, int]) -> list[gate.SuiteVerdict]:
    evaluate = ctx.config.evaluate
    return [
        gate.judge_suite(
            suite.name,
            [sample for sample in samples if sample.suite == suite.name],
            floor=suite.floor,
            planned=planned.get(suite.name, 0),
            error_budget=evaluate.error_budget,
        )
        for suite in evaluate.suites
    ]


def _stop_unless_passed(verdicts: list[gate.SuiteVerdict], samples: list[gate.Sample], gone: str) -> None:
    verdict = gate.overall(verdicts)
    if verdict == "infra":
        reasons = "; ".join(f"{v.name}: {v.reason}" for v in verdicts if v.verdict == "infra")
        raise InfraError(f"{gone + ': ' if gone else ''}{reasons}", hint="run again; the built image is kept")
    if verdict == "pass":
        return
    lines = [f"{v.name:<16} {v.verdict.upper():<6} {v.score:.3f} (floor {v.floor:g}), {v.planned} samples" for v in verdicts]
    for blocked in (v for v in verdicts if v.verdict == "block"):
        wrong = [sample for sample in samples if sample.suite == blocked.name and sample.id in blocked.wrong][:_SHOWN]
        lines += [f"  {sample.id}: expected {sample.expected!r}, got {sample.output!r}" for sample in wrong]
    raise GateBlocked(
        " · ".join(f"{v.name} {v.score:.3f} is below its floor {v.floor:g}" for v in verdicts if v.verdict == "block"),
        tail="\n".join(lines),
        hint="if this is intended, lower the floor in evaluate.suites and have the change reviewed",
    )


def answers_digest(samples: list[gate.Sample]) -> str:
    """Identify what was answered, without times."""
    rows = [[s.suite, s.id, s.epoch, s.score, s.output] for s in samples]
    return "sha256:" + hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
