"""What GitLab gets: collapsed sections in the log, metrics and variables in the run's directory."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pipelines import Pipeline, passing
from prometheus_client.parser import text_string_to_metric_families

from ci.approvals import Approval
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


def test_metrics_are_what_a_real_parser_reads(pipeline: Pipeline) -> None:
    """GitLab's parser is Prometheus's; a run's name or a suite's may hold anything."""
    record, _ = shown(pipeline)
    run = record.to_json()
    run["stages"][0]["name"] = 'a "quoted"\\ name'
    run["stages"][0]["seconds"] = 1.5
    run["stages"].append({"name": "scan", "seconds": 0, "result": {"findings": [{"severity": "low"}, {"severity": "high"}]}})
    samples = [sample for family in text_string_to_metric_families(metrics(run).replace("# EOF\n", "")) for sample in family.samples]
    stages = {sample.labels["stage"]: sample.value for sample in samples if sample.name == "weighbridge_stage_seconds"}
    assert stages['a "quoted"\\ name'] == 1.5
    found = {sample.labels["severity"]: sample.value for sample in samples if sample.name == "weighbridge_scan_findings"}
    assert found == {"high": 1, "medium": 0, "low": 1}


def test_variables_are_what_gitlab_accepts(pipeline: Pipeline) -> None:
    """One `NAME=value` a line, names of letters, digits and underscores, no more than 20 of them, less than 5 KiB."""
    record, _ = shown(pipeline)
    text = (record.directory / "weighbridge.env").read_text()
    lines = text.splitlines()
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=[^\r\n]*", line) for line in lines)
    assert 0 < len(lines) <= 20
    assert len(text) < 5 * 1024


def test_findings_are_a_code_quality_report(pipeline: Pipeline) -> None:
    """With what GitLab's documentation asks of each issue, a stable fingerprint among it; what no file holds is left out."""
    found = [
        {"rule": "B602", "severity": "high", "message": "shell", "file": "src/a.py", "line": 5, "key": "k"},
        {"rule": "secret:X", "severity": "medium", "message": "token", "file": "image:/etc/x", "line": 0, "key": "k"},
    ]

    async def scan(ctx: Context, _needs: Mapping[str, Any]) -> Any:
        ctx.record.artifact("scan.json").write_text(json.dumps({"schema": 1, "found": found}))
        raise StageFailed("1 finding")

    pipeline.add("scan", scan)
    del pipeline.stages["test"]
    record, _ = shown(pipeline)
    (issue,) = json.loads((record.directory / "codequality.json").read_text())
    assert (issue["check_name"], issue["severity"], issue["description"]) == ("B602", "critical", "shell")
    assert issue["location"] == {"path": "src/a.py", "lines": {"begin": 5}}
    again, _ = shown(pipeline)
    assert json.loads((again.directory / "codequality.json").read_text())[0]["fingerprint"] == issue["fingerprint"]


def test_without_a_scan_the_report_is_empty(pipeline: Pipeline) -> None:
    record, _ = shown(pipeline)
    assert json.loads((record.directory / "codequality.json").read_text()) == []


def test_waivers_are_shown_with_name_and_reason(pipeline: Pipeline) -> None:
    reasons = {"skip-full-eval": "weights are the same"}
    labels = ("skip-full-eval",)
    pipeline.facts = replace(pipeline.facts, event="pull_request", labels=labels, reasons=reasons, author="ana")
    pipeline.add("evaluate", passing())
    _, text = shown(pipeline)
    assert "waiver   skip-full-eval · ana: weights are the same\n" in text


def test_a_run_that_changed_nothing_names_who_answers_too(pipeline: Pipeline) -> None:
    given = Approval(commit=pipeline.facts.commit, by="Ana <ana@localhost>", when="2026-11-21T18:00:00Z", why="restores the service")
    pipeline.facts = replace(pipeline.facts, branch="hotfix/nan", approvals=(given,))
    pipeline.add("test", passing(), needs=("build",))
    assert shown(pipeline)[0].exit == 0
    _, text = shown(pipeline)
    assert "nothing changed" in text
    assert f"approval {given.commit[:7]} · Ana <ana@localhost> on {given.when}: restores the service\n" in text
