"""package: the model as an OCI artefact: weights, configuration, lock, training summary and what the evaluation said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ci.artefact import kind_of
from ci.stage import Context, StageResult
from ci.stages import common, kept
from ci.stages.build import describe_archive, model_files, subject_name
from ci.stages.common import host_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

_REPORT = "eval_report.json"


@dataclass(frozen=True, slots=True)
class Result(StageResult):
    """The artefact, which lies in the cache as an OCI archive."""

    digest: str
    size: int
    files: int


async def run(ctx: Context, needs: Mapping[str, Any]) -> Result:
    """Pack the artefact in a container and keep it in the cache."""
    job = artefact_job(ctx, needs)
    names = [layer["path"] for layer in job["layers"] if layer["path"] != _REPORT]
    with common.subject_fault("packing the artefact"):
        packed = await (
            common.program(ctx, "artefact.py")
            .with_mounted_directory("/model", host_tree(ctx, ctx.subject, names).with_new_file(_REPORT, eval_report(ctx, needs)))
            .with_new_file("/job.json", common.json_of(job))
            .with_exec(["python3", "-m", "ci.artefact", "/job.json", "/artefact.tar"])
            .sync()
        )
    with kept.incoming(ctx.cache) as part:
        await packed.file("/artefact.tar").export(str(part))
        digest, size, layers = describe_archive(part)
        kept.keep(ctx.cache, part, digest)
    return Result(f"{common.plural(layers, 'file')}, {common.megabytes(size)}", digest, size, layers)


def artefact_job(ctx: Context, needs: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the artefact: which files it holds, under which names, and what it says of itself."""
    layers = [{"path": name, "name": name, "kind": kind_of(name)} for name in model_files(ctx)]
    layers.append({"path": ctx.config.subject.lock, "name": ctx.config.subject.lock, "kind": "weight.config"})
    documents = [ctx.config.package.training_summary, *ctx.config.package.files]
    layers += [{"path": name, "name": name, "kind": "doc"} for name in documents if name and (ctx.subject / name).is_file()]
    layers.append({"path": _REPORT, "name": _REPORT, "kind": "doc"})
    return {
        "name": subject_name(ctx),
        "revision": ctx.facts.commit,
        "root": "/model",
        "layers": layers,
        "annotations": {
            "org.opencontainers.image.title": subject_name(ctx),
            **({"org.opencontainers.image.revision": ctx.facts.commit} if ctx.facts.commit else {}),
            "weighbridge.image.digest": needs["build"].digest,
            **({"weighbridge.eval.answers": needs["evaluate"].answers} if "evaluate" in needs else _approved(ctx)),
        },
    }


def _approved(ctx: Context) -> dict[str, str]:
    """Return the word of who answers for a model that was not evaluated."""
    return {"weighbridge.approval": "; ".join(f"{given.by} on {given.when}: {given.why}" for given in ctx.facts.approvals)}


def eval_report(ctx: Context, needs: Mapping[str, Any]) -> str:
    """Write what the evaluation said, without times, so that the same answers make the same artefact."""
    if "evaluate" not in needs:
        return common.json_of({"schema": "weighbridge.eval-report/1", "image": needs["build"].digest, "suites": [], **_approved(ctx)})
    evaluated = needs["evaluate"]
    return common.json_of(
        {
            "schema": "weighbridge.eval-report/1",
            "image": evaluated.image,
            "model": evaluated.model,
            "answers": evaluated.answers,
            "suites": evaluated.to_json()["suites"],
        }
    )
