"""A frozen run refuses what is not pinned, with the place, and asks nobody."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from otlp_receiver import OtlpReceiver
from pipelines import Done, Pipeline

from ci import frozen
from ci.base.choice import pinned
from ci.base.errors import BaseError
from ci.config.model import BaseConfig
from ci.errors import UsageError
from ci.plan import make_plan
from ci.selection import Selection
from ci.stage import Context
from ci.stages import STAGES
from ci.stages.scan import out_of_date

DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """Give a repository in which everything is pinned."""
    pipeline = Pipeline.at(tmp_path)
    service = pipeline.root / "service"
    lock = f"one==1.0 \\\n    --hash={DIGEST}\n"
    (service / "requirements.txt").write_text(lock)
    (service / pipeline.config.test.requirements).parent.mkdir(exist_ok=True)
    (service / pipeline.config.test.requirements).write_text(lock)
    (service / "model.lock").write_text(json.dumps({"files": {"config.json": {"sha256": "1" * 64, "size": 1}}}, indent=1))
    configured(pipeline, f"base: {{image: registry.example/python@{DIGEST}}}")
    return pipeline


def configured(pipeline: Pipeline, line: str) -> None:
    path = pipeline.root / "configs" / "pipeline.yaml"
    path.write_text(line + "\n" + path.read_text().partition("subject:")[1] + path.read_text().partition("subject:")[2])


def refused(pipeline: Pipeline) -> list[str]:
    with pytest.raises(UsageError) as caught:
        frozen.check(pipeline.config, pipeline.root)
    return str(caught.value).splitlines()


def test_what_is_pinned_passes(pipeline: Pipeline) -> None:
    frozen.check(pipeline.config, pipeline.root)


@pytest.mark.parametrize("image", ["host", "oci-archive:base.tar"])
def test_bases_of_this_machine_need_no_digest(pipeline: Pipeline, image: str) -> None:
    configured(pipeline, f"base: {{image: '{image}'}}")
    frozen.check(pipeline.config, pipeline.root)


def test_an_image_by_tag_is_refused_with_its_place_and_what_to_write(pipeline: Pipeline) -> None:
    configured(pipeline, "base:\n  image: registry.example/python:3.11\n  aliases:\n    python:3.11: docker.io/library/python:3.11")
    config, python, mirror = "configs/pipeline.yaml", "registry.example/python:3.11", "docker.io/library/python:3.11"
    assert refused(pipeline) == [
        f"{config}:2:10: base.image {python} has no digest: write {python}@sha256:<digest>",
        f"{config}:4:18: base.aliases.python:3.11 {mirror} has no digest: write {mirror}@sha256:<digest>",
        "2 things not pinned (--frozen). Nothing was run.",
    ]


def test_a_default_that_nobody_wrote_is_refused_too(pipeline: Pipeline) -> None:
    configured(pipeline, "")
    assert refused(pipeline)[0].startswith("configs/pipeline.yaml:")
    assert "base.image docker.io/library/python:3.11-slim has no digest" in refused(pipeline)[0]


def test_packages_and_model_files_without_a_digest_have_their_line(pipeline: Pipeline) -> None:
    service = pipeline.root / "service"
    (service / "requirements.txt").write_text(f"one==1.0 \\\n    --hash={DIGEST}\ntwo==2.0\nthree>=3\n")
    (service / "model.lock").write_text('{"files": {\n"config.json": {"sha256": "1"},\n"weights": {"size": 3}}}')
    assert refused(pipeline)[:3] == [
        "service/requirements.txt:3: has no sha256 hash: two==2.0",
        "service/requirements.txt:4: not pinned to one version: three>=3",
        "service/model.lock:3: weights has no sha256",
    ]


def test_a_pinned_base_is_resolved_without_asking(pipeline: Pipeline) -> None:
    """The registry's name resolves nowhere."""
    config = BaseConfig(image=f"registry.invalid/python:3.11@{DIGEST}")
    base = asyncio.run(frozen.resolve(config, pipeline.root, pipeline.cache))
    assert (base.kind, base.identity) == ("image", DIGEST)
    assert base.reference.endswith(f"@{DIGEST}")
    with pytest.raises(BaseError, match="has no digest"):
        pinned("registry.invalid/python:3.11")


def test_push_to_a_registry_is_left_out_and_says_why(pipeline: Pipeline) -> None:
    configured(pipeline, "push: {target: registry.example/team/model}")
    plan = make_plan(pipeline.config, pipeline.facts, STAGES, selection=Selection(frozen=True))
    (push,) = (stage for stage in plan.stages if stage.name == "push")
    assert (push.do, push.why) == ("skip", "a registry is not reached (--frozen)")
    configured(pipeline, "push: {layout: out}")
    plan = make_plan(pipeline.config, pipeline.facts, STAGES, selection=Selection(frozen=True))
    assert [stage.name for stage in plan.stages if stage.do == "skip"] == []


def test_nobody_is_asked_for_advisories_nor_told_of_the_run(pipeline: Pipeline) -> None:
    """The same run, not frozen, has both; its result stands for the frozen one, because keys hold what is written."""
    told = []

    async def work(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        told.append(ctx.config.scan.advisories)
        return Done("fine")

    pipeline.add("scan", work, config=("scan",))
    with OtlpReceiver() as receiver:
        path = pipeline.root / "configs" / "pipeline.yaml"
        path.write_text(f"{path.read_text()}traces: {{endpoint: '{receiver.address}'}}\n")
        pipeline.run(selection=Selection(frozen=True))
        assert receiver.connections == 0
        pipeline.run(selection=Selection(everything=True))
        assert receiver.connections == 1
    assert told == ["", "https://api.osv.dev"]
    assert pipeline.run(selection=Selection(frozen=True)).stages["scan"].status == "reused"


@pytest.mark.parametrize(
    ("looked_at", "frozen_run", "said"),  # seconds; None is now
    [
        (0.0, False, "advisories have not been asked for"),
        (0.0, True, ""),
        (1.0, False, "advisories could not be checked an hour ago"),
        (1.0, True, ""),
        (None, False, ""),
    ],
)
def test_a_scan_of_a_frozen_run_stands_for_frozen_runs_alone(
    pipeline: Pipeline, looked_at: float | None, frozen_run: bool, said: str
) -> None:
    config = frozen.untouched(pipeline.config) if frozen_run else pipeline.config
    looked_at = time.time() if looked_at is None else looked_at
    assert out_of_date({"looked_at": looked_at, "advisories": False}, config, pipeline.root, pipeline.cache) == said
