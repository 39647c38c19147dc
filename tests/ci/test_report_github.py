"""What GitHub Actions gets: folded stages, annotations, a summary, outputs; and nothing of a subject's output becomes a command."""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pipelines import Pipeline, passing

from ci.approvals import Approval
from ci.facts import Facts
from ci.record import RunRecord
from ci.report import choose, words
from ci.report.github import _output
from ci.report.markdown import summary
from ci.stage import Context, Finding, StageFailed, StageResult

SAID = "::error file=ours.py::forged\n  ::set-env name=PATH::/tmp\n##[add-mask]x\nordinary\n"


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    pipeline = Pipeline.at(tmp_path)
    pipeline.facts = Facts(host="github", event="push", commit="0123456789abcdef")

    async def test(ctx: Context, _needs: Mapping[str, Any]) -> Any:
        log = ctx.record.artifact("logs/test.log")
        log.write_text(SAID)
        findings = [Finding("assert 1 == 2\nand, more: 100%", "tests/a,b.py", 7, "test_a"), *([Finding("x", "y.py")] * 20)]
        raise StageFailed("21 failed | <b>", tail="::warning::forged\n```", findings=findings, again=("-k", "test_a"))

    pipeline.add("build", passing("212 MB", digest="sha256:1"))
    pipeline.add("test", test, needs=("build",))
    return pipeline


def shown(pipeline: Pipeline, environ: Mapping[str, str]) -> tuple[RunRecord, list[str]]:
    stream = io.StringIO()
    record = pipeline.run(choose(stream, environ, quiet=False))  # type: ignore[arg-type]
    return record, stream.getvalue().splitlines()


def obeyed(lines: list[str]) -> list[str]:
    """Give the lines that GitHub would take for commands, as its runner reads them."""
    commands, token = [], ""
    for line in lines:
        text = line.strip()
        if token:
            token = "" if text == f"::{token}::" else token
        elif text.startswith("::stop-commands::"):
            token = text.removeprefix("::stop-commands::")
        elif text.startswith("::") or "##[" in text:
            commands.append(text)
    assert not token
    return commands


def test_stages_fold_and_only_our_commands_are_obeyed(pipeline: Pipeline) -> None:
    _, lines = shown(pipeline, {})
    commands = obeyed(lines)
    assert re.match(r"::group::✗ test +\d", commands[0])
    assert commands[1] == "::endgroup::"
    assert commands[2] == "::error file=tests/a%2Cb.py,line=7,title=test_a::assert 1 == 2%0Aand, more: 100%25"
    assert len(commands) == 2 + 10
    assert all(command.startswith("::error file=y.py,title=test::x") for command in commands[3:])
    assert "forged" not in "".join(commands)


def test_a_failure_without_a_place_is_one_annotation(pipeline: Pipeline) -> None:
    async def fail(_ctx: Context, _needs: Mapping[str, Any]) -> Any:
        raise StageFailed("the service does not start\nexit code 2")

    pipeline.stages.clear()
    pipeline.add("evaluate", fail)
    assert obeyed(shown(pipeline, {})[1]) == ["::error title=evaluate::the service does not start%0Aexit code 2"]


def test_summary_and_outputs_are_appended(pipeline: Pipeline, tmp_path: Path) -> None:
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GITHUB_OUTPUT": str(tmp_path / "output")}
    (tmp_path / "output").write_text("before=1\n")
    record, _ = shown(pipeline, environ)
    outputs = (tmp_path / "output").read_text().splitlines()
    assert outputs == [
        "before=1",
        "status=failed",
        "exit=1",
        f"run={record.id}",
        f"record=.weighbridge/runs/{record.id}",
        "image=sha256:1",
    ]
    text = (tmp_path / "summary.md").read_text()
    assert "| ✓ | **build** |" in text
    assert "21 failed \\| \\<b\\>" in text
    assert "````text\n::warning::forged\n```\n````" in text
    assert "run --only test -- -k test_a" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}


def test_a_run_that_changed_nothing_is_one_line_with_summary(pipeline: Pipeline, tmp_path: Path) -> None:
    del pipeline.stages["test"]
    shown(pipeline, {})
    _, lines = shown(pipeline, {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")})
    assert len(lines) == 1
    assert "none of its inputs changed" in (tmp_path / "summary.md").read_text()


def test_files_that_cannot_be_written_cost_themselves_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    record, _ = shown(pipeline, {"GITHUB_STEP_SUMMARY": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "no" / "such")})
    assert record.exit == 1


def test_a_value_of_two_lines_cannot_name_another_output() -> None:
    first, *middle, last = _output("status", "a\nexit=0").splitlines()
    assert first.removeprefix("status<<") == last
    assert middle == ["a", "exit=0"]


def test_summary_has_the_scores(pipeline: Pipeline, tmp_path: Path) -> None:
    del pipeline.stages["test"]
    record = pipeline.run()
    (record.directory / "gate.json").write_text(
        '{"suites": [{"name": "text", "verdict": "pass", "score": 0.5, "floor": 0.4, "planned": 10}]}'
    )
    assert "| text | pass | 0.500 | 0.237 … 0.763 | 0.4 | 10 |" in summary(record.to_json(), record.directory)


def test_elsewhere_it_stays_plain(pipeline: Pipeline) -> None:
    pipeline.facts = replace(pipeline.facts, host="local")
    assert not any(line.startswith("::") for line in shown(pipeline, {})[1])


FOUND = (
    Finding("assert", "src/a.py", 3, "B101", severity="low"),
    Finding("a token", "deploy.sh", 2, "secret:GitHub Token", severity="medium"),
    Finding("in the image", "image:/etc/x", 1, "secret:GitHub Token", severity="medium"),
)


@dataclass(frozen=True, slots=True)
class Scanned(StageResult):
    findings: tuple[Finding, ...] = FOUND
    notes: tuple[str, ...] = ("advisories: nobody | answered",)


def _scanned(pipeline: Pipeline) -> Pipeline:
    async def scan(_ctx: Context, _needs: Mapping[str, Any]) -> StageResult:
        return Scanned("3 findings, none blocks")

    pipeline.stages.clear()
    pipeline.add("scan", scan)
    pipeline.stages["scan"].module.Result = Scanned  # type: ignore[union-attr]
    return pipeline


def test_what_does_not_block_is_a_warning_or_a_notice(pipeline: Pipeline) -> None:
    assert obeyed(shown(_scanned(pipeline), {})[1]) == [
        "::warning file=deploy.sh,line=2,title=secret%3AGitHub Token::a token",
        "::notice file=src/a.py,line=3,title=B101::assert",
    ]


def _rendered(text: str) -> str:
    """Render Markdown as GitHub does, with tables and without raw HTML."""
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def test_the_summary_renders_as_headings_tables_and_nothing_of_others(pipeline: Pipeline) -> None:
    """Words of a subject become no markup: no tag, no link, no table cell of their own."""
    record, _ = shown(pipeline, {})
    page = ET.fromstring(f"<page>{_rendered(summary(record.to_json(), record.directory))}</page>")
    assert [heading.text for heading in page.iter("h2")] == ["✗ small @ 0123456: failed in " + words.seconds(record.seconds)]
    stages, *_ = page.iter("table")
    assert {len(row) for row in stages.iter("tr")} == {4}
    assert [row[1][0].text for row in stages.iter("tr") if row[1].tag == "td"] == ["build", "test"]
    ours = {"page", "h2", "h3", "table", "thead", "tbody", "tr", "th", "td", "strong", "p", "ul", "li", "pre", "code"}
    assert {element.tag for element in page.iter()} <= ours
    assert "::warning::forged" in "".join("".join(block.itertext()) for block in page.iter("pre"))


def test_the_summary_shows_what_the_scan_found(pipeline: Pipeline) -> None:
    record, _ = shown(_scanned(pipeline), {})
    page = ET.fromstring(f"<page>{_rendered(summary(record.to_json(), record.directory))}</page>")
    _, found = page.iter("table")
    assert [heading.text for heading in page.iter("h3")] == ["scan found"]
    assert ["".join(cell.itertext()) for cell in list(found.iter("tr"))[2]] == ["medium", "deploy.sh:2", "secret:GitHub Token", "a token"]
    assert "not checked: advisories: nobody | answered" in "".join(page.itertext())


def test_the_output_file_is_what_github_s_runner_parses(pipeline: Pipeline, tmp_path: Path) -> None:
    """`name=value`, or `name<<end`, lines, `end`, as the runner's own reader takes them."""
    place = tmp_path / "output"
    shown(pipeline, {"GITHUB_OUTPUT": str(place)})
    values, lines = {}, iter(place.read_text().splitlines())
    for line in lines:
        if "=" in line and ("<<" not in line or line.index("=") < line.index("<<")):
            name, _, value = line.partition("=")
        else:
            name, _, end = line.partition("<<")
            value = "\n".join(iter(lambda: next(lines), end))
        values[name] = value
    assert values["status"] == "failed"
    assert values["exit"] == "1"
    assert values["record"].startswith(".weighbridge/runs/")


def test_waivers_and_approvals_are_shown_with_name_and_reason(pipeline: Pipeline) -> None:
    """In the log and in the summary; what a person wrote there is neither markup nor a command."""
    pipeline.facts = replace(
        pipeline.facts,
        event="pull_request",
        labels=("skip-full-eval",),
        reasons={"skip-full-eval": "weights are | the same ##[error]x\n::error::y"},
        author="ana",
    )
    pipeline.add("evaluate", passing())
    record, lines = shown(pipeline, {})
    said = "waiver   skip-full-eval · ana: weights are | the same ## [error]x ::error::y"
    assert said in lines
    assert all("forged" not in command and "::error::y" not in command for command in obeyed(lines))
    page = ET.fromstring(f"<page>{_rendered(summary(record.to_json(), record.directory))}</page>")
    assert [heading.text for heading in page.iter("h3")] == ["Who answers for it", "test failed"]
    *_, given = page.iter("table")
    row = ["".join(cell.itertext()) for cell in list(given.iter("tr"))[1]]
    assert row == ["waiver", "skip-full-eval", "ana", "weights are | the same ##[error]x ::error::y", ""]


def test_an_approval_is_in_the_summary(pipeline: Pipeline) -> None:
    given = Approval(commit=pipeline.facts.commit, by="Ana <ana@localhost>", when="2026-11-21T18:00:00Z", why="restores the service")
    pipeline.facts = replace(pipeline.facts, branch="hotfix/nan", approvals=(given,))
    record, lines = shown(pipeline, {})
    assert "approval 0123456 · Ana <ana@localhost> on 2026-11-21T18:00:00Z: restores the service" in lines
    page = ET.fromstring(f"<page>{_rendered(summary(record.to_json(), record.directory))}</page>")
    *_, table = page.iter("table")
    row = ["".join(cell.itertext()) for cell in list(table.iter("tr"))[1]]
    assert row == ["approval", "0123456789ab", "Ana <ana@localhost>", "restores the service", "2026-11-21T18:00:00Z"]
