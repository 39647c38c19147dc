"""validate: checks the repository in a container, before anything expensive starts (ci/check.py is the program)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagger import ReturnType

from ci.stage import Context, Finding, StageFailed, StageResult
from ci.stages import common
from ci.stages.common import host_tree

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Result(StageResult):
    """What was looked at."""

    counts: Mapping[str, int]


async def run(ctx: Context, needs: Mapping[str, Any]) -> Result:  # noqa: ARG001  every stage is called alike
    """Check model files, documents, suites and locks."""
    job = check_job(ctx)
    files = [*ctx.config.subject.model, job["lock"], job["summary"], ctx.config.subject.evals, *job["requirements"], "pyproject.toml"]
    checked = await (
        common.program(ctx, "check.py", "artefact.py")
        .with_mounted_directory("/subject", host_tree(ctx, ctx.subject, [name for name in files if name]))
        .with_new_file("/job.json", common.json_of(job))
        .with_exec(["python3", "-m", "ci.check", "/job.json"], expect=ReturnType.ANY)
        .sync()
    )
    try:
        report = json.loads(await checked.stdout())
    except ValueError as error:
        raise StageFailed("the check itself failed", tail=await checked.stderr()) from error
    findings = tuple(_finding(ctx, problem) for problem in report["problems"])
    if findings:
        shown = "\n".join(f"{found.file}:{found.line}: {found.message}" for found in findings[:_SHOWN])
        raise StageFailed(common.plural(len(findings), "problem"), tail=shown, findings=findings)
    counts = report["counts"]
    said = f"{counts.get('model files', 0)} model files match {job['lock']} · {common.plural(counts.get('documents', 0), 'document')}, "
    said += (
        f"{counts.get('samples', 0)} samples in {common.plural(len(job['suites']), 'suite')}, {counts.get('packages', 0)} locked packages"
    )
    return Result(said, counts)


def check_job(ctx: Context) -> dict[str, Any]:
    """Describe what the program shall check; it sees the subject at /subject."""
    config = ctx.config
    return {
        "root": "/subject",
        "model": list(config.subject.model),
        "lock": config.subject.lock,
        "summary": config.package.training_summary,
        "suites": [{"file": f"{config.subject.evals}/{suite.file}", "limit": suite.limit} for suite in config.evaluate.suites],
        "requirements": [config.build.requirements, config.test.requirements],
    }


def _finding(ctx: Context, problem: Mapping[str, Any]) -> Finding:
    base = "" if ctx.config.subject.path in {"", "."} else ctx.config.subject.path.rstrip("/") + "/"
    return Finding(problem["message"], base + problem["file"], problem["line"])
