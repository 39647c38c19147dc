from pathlib import Path

from pipelines import Done, Pipeline, passing

from ci.memo import Memo
from ci.report.why import explain
from ci.schedule import Schedule
from ci.stage import Context


def why(pipeline: Pipeline, stage: str) -> list[str]:
    schedule = Schedule(
        config=pipeline.config,
        facts=pipeline.facts,
        root=pipeline.root,
        cache=pipeline.cache,
        stages=pipeline.stages,
        memo=Memo(pipeline.cache, pipeline.root),
        engine=pipeline.engine,
    )
    return explain(stage, schedule)


def two_stages(place: Path) -> Pipeline:
    async def build(ctx: Context, _needs: object) -> Done:
        return Done("built", digest=(ctx.subject / "main.py").read_text())

    pipeline = Pipeline.at(place)
    pipeline.add("build", build, files=("service",))
    pipeline.add("test", passing(), needs=("build",))
    return pipeline


def test_what_never_ran_says_so(tmp_path: Path) -> None:
    assert why(two_stages(tmp_path), "build") == ["build runs: never passed here"]


def test_a_change_is_followed_to_where_it_comes_from(tmp_path: Path) -> None:
    pipeline = two_stages(tmp_path)
    run = pipeline.run().id
    (pipeline.root / "service" / "main.py").write_text("print('other')\n")
    assert why(pipeline, "test") == [
        "test runs again: depends on build",
        "  build runs again because",
        "    service/main.py changed",
        f"  last done at 0123456 in run {run}",
        "  everything else is as it was",
    ]


def test_what_is_reused_says_why_it_ran_the_last_time(tmp_path: Path) -> None:
    pipeline = two_stages(tmp_path)
    first = pipeline.run().id
    assert why(pipeline, "build") == [f"build is reused: none of its inputs changed since it was done at 0123456 in run {first}"]
    (pipeline.root / "service" / "main.py").write_text("print('other')\n")
    second = pipeline.run().id
    assert why(pipeline, "build") == [
        f"build is reused: none of its inputs changed since it was done at 0123456 in run {second}",
        "it ran then because",
        "  service/main.py changed",
    ]
    assert why(pipeline, "test")[1:] == ["it ran then because", "  build's result changed"]
