import json
from pathlib import Path

from pipelines import Done, Pipeline, commits, passing

from ci.facts import Facts
from ci.memo import Memo
from ci.report.why import explain, missed
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
        "  everything else is as it was: Python, the pipeline itself",
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


def test_the_changed_line_of_a_committed_file_is_named(tmp_path: Path) -> None:
    pipeline = two_stages(tmp_path)
    main = pipeline.root / "service" / "main.py"
    main.write_text("".join(f"print({number})\n" for number in range(100)))
    pipeline.facts = Facts(commit=next(commits(pipeline.root)))
    pipeline.run()
    main.write_text(main.read_text().replace("print(87)\n", "print('x')\nprint('y')\n"))
    assert "  service/main.py changed (line 88, +2 −1)" in why(pipeline, "build")
    pipeline.run()
    assert "  service/main.py changed (line 88, +2 −1)" in why(pipeline, "build")  # done, and not committed yet
    pipeline.facts = Facts(commit=next(commits(pipeline.root)))
    pipeline.run()
    main.write_text("print('something else again')\n")
    pipeline.run()
    main.unlink()
    assert "  service/main.py is gone" in why(pipeline, "build")


def test_lines_are_not_told_of_a_file_that_git_never_had(tmp_path: Path) -> None:
    pipeline = two_stages(tmp_path)
    pipeline.facts = Facts(commit=next(commits(pipeline.root)))
    (pipeline.root / "service" / "main.py").write_text("print('not committed')\n")
    pipeline.run()
    (pipeline.root / "service" / "main.py").write_text("print('other')\n")
    assert "  service/main.py changed" in why(pipeline, "build")


def test_a_configuration_names_both_values(tmp_path: Path) -> None:
    pipeline = Pipeline.at(tmp_path)
    pipeline.add("build", passing(), config=("build.port",))
    pipeline.run()
    config = pipeline.root / "configs" / "pipeline.yaml"
    config.write_text(config.read_text().replace("build: {", "build: {port: 9000, "))
    assert "  build.port in the configuration changed (8000 → 9000)" in why(pipeline, "build")


def record(place: Path, *steps: tuple[str, bool]) -> Path:
    told = [{"command": command, "cached": cached, "seconds": 0.1} for command, cached in steps]
    (place / "run.json").write_text(json.dumps({"stages": [{"name": "build", "steps": told}]}))
    return place


def test_the_first_step_that_missed_is_named_with_its_command(tmp_path: Path) -> None:
    run = record(tmp_path, ("pip install", True), ("sh -c make\nmore", False), ("chmod x", True), ("strip", False))
    assert missed(run, "build") == [
        "of its 4 steps 2 ran then; the first that was not in the engine's cache was number 2",
        "  sh -c make more",
    ]
    assert missed(record(tmp_path, ("true", True)), "build") == ["all of its 1 steps came from the engine's cache then"]
    assert missed(record(tmp_path), "build") == []
    assert missed(tmp_path / "gone", "build") == []
