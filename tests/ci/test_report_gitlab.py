"""What GitLab gets: collapsed sections in the log, metrics and variables in the run's directory."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pipelines import Pipeline, passing

from ci.facts import Facts
from ci.record import RunRecord
from ci.report import choose
from ci.report.outputs import dotenv, metrics
from ci.stage import Context, StageFailed


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    pipeline = Pipeline.at(tmp_path)
    pipeline.facts = Facts(host="gitlab", event="push", commit="0123456789abcdef")

    async def test(ctx: Context, _needs: Mapping[str, Any]) -> Any:
        ctx.record.artifact("logs/test.log").write_text("collected 2 items\n1 failed\n")
        raise StageFailed("1 failed", tail="E   assert 1 == 2")

    pipeline.add("build", passing("212 MB", digest="sha256:1"))
    pipeline.add("test", test, needs=("build",))
    return pipeline


def shown(pipeline: Pipeline) -> tuple[RunRecord, str]:
    stream = io.StringIO()
    return pipeline.run(choose(stream, {}, quiet=False)), stream.getvalue()  # type: ignore[arg-type]


def test_a_stage_with_output_is_a_collapsed_section_and_its_failure_is_below(pipeline: Pipeline) -> None:
    _, text = shown(pipeline)
    start = r"\x1b\[0Ksection_start:(\d+):weighbridge_test\[collapsed=true\]\r\x1b\[0K ✗ test[^\n]*\n"
    end = r"\x1b\[0Ksection_end:(\d+):weighbridge_test\r\x1b\[0K\n"
    found = re.search(f"{start}(.*){end}(.*)", text, re.DOTALL)
    assert found
    assert found[2] == "collected 2 items\n1 failed\n"
    assert int(found[1]) <= int(found[3])
    assert "E   assert 1 == 2" in found[4]
    assert text.count("section_start") == 1


def test_metrics_and_variables_lie_in_the_runs_directory(pipeline: Pipeline) -> None:
    record, _ = shown(pipeline)
    variables = dict(line.split("=", 1) for line in (record.directory / "weighbridge.env").read_text().splitlines())
    assert variables["WEIGHBRIDGE_STATUS"] == "failed"
    assert variables["WEIGHBRIDGE_IMAGE"] == "sha256:1"
    lines = (record.directory / "metrics.txt").read_text().splitlines()
    assert lines[-1] == "# EOF"
    assert all(re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"\})? \d+(\.\d+)?', line) for line in lines[:-1])


def test_scores_and_coverage_are_metrics() -> None:
    stages = [
        {"name": "build", "seconds": 1.5, "result": {"size": 12, "digest": "sha256:1"}},
        {"name": "test", "seconds": 2.0, "result": {"passed": 3, "coverage": 91.234}},
        {"name": "evaluate", "seconds": 0.0, "result": {"suites": [{"name": 'a"b', "score": 0.5}]}},
    ]
    run = {"id": "r", "status": "a\nb", "exit": 0, "seconds": 3.5, "stages": stages}
    assert metrics(run).splitlines() == [
        "weighbridge_seconds 3.5",
        'weighbridge_stage_seconds{stage="build"} 1.5',
        'weighbridge_stage_seconds{stage="test"} 2.0',
        "weighbridge_tests_passed 3",
        "weighbridge_coverage_percent 91.23",
        'weighbridge_score{suite="a\\"b"} 0.5',
        "weighbridge_image_bytes 12",
        "# EOF",
    ]
    assert "WEIGHBRIDGE_STATUS=a b\n" in dotenv(run)
