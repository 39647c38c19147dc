"""The page of a run: made from the record alone, safe whatever a model says, and never the reason that a run fails."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium, computed
from pipelines import Pipeline, passing

from ci.errors import UsageError
from ci.report import choose, html
from ci.report.evidence import read_cases, read_coverage, wilson
from ci.report.history import find_run, last_runs, table
from ci.report.samples import browse, suite_files
from ci.stage import Context, Finding, StageFailed

ROOT = Path(__file__).resolve().parents[2]
EVIL = '<script>document.title="owned"</script>"\'&<img src=x onerror=alert(1)>'
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000020001e221bc330000000049454e44ae426082"
)
JUNIT = """<testsuites><testsuite name="pytest">
<testcase classname="tests.test_a" name="test_slow" file="tests/test_a.py" line="9" time="2.5"/>
<testcase classname="tests.test_a" name="test_fast" file="tests/test_a.py" line="19" time="0.1"/>
<testcase classname="tests.test_a" name="test_wrong" file="tests/test_a.py" line="29" time="0.2">
<failure message="assert 1 == 2">x</failure></testcase>
<testcase classname="tests.test_a" name="test_gpu" file="tests/test_a.py" line="39" time="0"><skipped message="no GPU"/></testcase>
</testsuite></testsuites>"""
COVERAGE = """<coverage><packages><package><classes><class filename="src/a.py"><lines>
<line number="1" hits="1"/><line number="2" hits="0"/><line number="3" hits="0"/><line number="5" hits="0"/>
</lines></class></classes></package></packages></coverage>"""


def sample(number: int, *, score: float = 1.0, suite: str = "text", **more: Any) -> dict[str, Any]:
    return {"id": f"{suite}-{number}", "suite": suite, "score": score, "expected": "one", "output": "two", "latency_s": 0.1, **more}


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """Make a run in which evaluate left samples, and test failed with words that no browser may obey."""
    pipeline = Pipeline.at(tmp_path)
    evals = pipeline.root / "service" / "evals"
    evals.mkdir()
    (evals / "one.png").write_bytes(PIXEL)
    asked = [{"id": f"text-{number}", "prompt": "Which digit?", "image": "one.png", "expected": "one"} for number in range(90)]
    (evals / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))

    async def evaluate(ctx: Context, _needs: Mapping[str, Any]) -> Any:
        samples = [sample(0), sample(1, score=0.0, output=EVIL), sample(2, score=0.0, error_class="timeout"), *map(sample, range(3, 90))]
        ctx.record.artifact("samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in samples))
        suite = {
            "name": "text",
            "verdict": "pass",
            "score": 0.9,
            "floor": 0.5,
            "planned": 90,
            "completed": 89,
            "truncated": 0,
            "p50_s": 0.1,
        }
        ctx.record.artifact("gate.json").write_text(json.dumps({"verdict": "pass", "suites": [suite]}))
        return await passing("text 0.9")(ctx, _needs)

    async def test(ctx: Context, _needs: Mapping[str, Any]) -> Any:
        ctx.record.artifact("junit.xml").write_text(JUNIT)
        ctx.record.artifact("coverage.xml").write_text(COVERAGE)
        raise StageFailed(
            "1 failed", tail=f"E   {EVIL}", findings=[Finding("assert 1 == 2", "tests/test_a.py", 31, "test_wrong")], again=("-k", "a b")
        )

    pipeline.add("evaluate", evaluate)
    pipeline.add("test", test, needs=("evaluate",))
    pipeline.add("push", passing(), needs=("test",))
    return pipeline


class Elements(HTMLParser):
    """Keeps the elements of a page and checks that they close."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(pipeline: Pipeline) -> tuple[Path, str, Elements]:
    record = pipeline.run()
    page = html.write(record.directory, pipeline.root)
    text = page.read_text()
    elements = Elements()
    elements.feed(text)
    assert elements.open == []
    return page, text, elements


def test_the_page_holds_what_happened_and_what_to_do(pipeline: Pipeline) -> None:
    _, text, elements = page_of(pipeline)
    heads = re.findall(r"<h2 [^>]*>([^<]+)", text)
    assert heads == ["Failure", "Timeline", "Costs", "Evaluation", "Samples", "Tests", "Coverage"]
    for said in ("tests/test_a.py:31", "run --only test -- -k &#x27;a b&#x27;", "95 % Wilson interval", "not run: test failed", "2–3, 5"):
        assert said in text
    assert [attributes["scope"] for tag, attributes in elements.found if tag == "th"].count("col") == len(re.findall("<th ", text))


def test_nothing_that_was_said_becomes_markup_and_nothing_is_loaded(pipeline: Pipeline) -> None:
    _, text, elements = page_of(pipeline)
    assert EVIL not in text
    assert [tag for tag, _ in elements.found].count("script") == 1
    assert all(str(attributes["src"]).startswith("data:image/") for tag, attributes in elements.found if tag == "img")
    assert [attributes for tag, attributes in elements.found if tag == "link"] == [{"rel": "icon", "href": "data:,"}]
    assert "default-src 'none'" in text


def test_wrong_answers_come_first_and_pictures_stay_within_limits(pipeline: Pipeline) -> None:
    _, text, elements = page_of(pipeline)
    shown = [attributes for tag, attributes in elements.found if tag == "li" and "data-verdict" in attributes]
    assert [item["data-verdict"] for item in shown[:3]] == ["wrong", "unanswered", "right"]
    assert shown[0]["id"] == "text-wrong"
    assert len(shown) == 24
    assert "no answer: timeout" in text
    assert [tag for tag, _ in elements.found].count("img") == 24


def test_a_suite_that_changed_puts_no_other_picture_beside_an_answer(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(sample(number)) + "\n" for number in range(3)) + "not json\n")
    (tmp_path / "one.png").write_bytes(PIXEL)
    lines = [
        {"id": "text-0", "prompt": "p", "image": "one.png", "expected": "seven"},
        {"id": "text-1", "prompt": "p", "image": "../../etc/passwd.png", "expected": "one"},
        {"id": "text-2", "prompt": "p", "image": "one.svg", "expected": "one"},
    ]
    (tmp_path / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    browser = browse(tmp_path / "samples.jsonl", {"text": tmp_path / "text.jsonl"})
    assert [(item.prompt, item.picture) for item in browser.shown] == [("", ""), ("p", ""), ("p", "")]
    assert suite_files(tmp_path, tmp_path / "cache") == {}


def test_tests_and_coverage_show_the_worst_first(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT)
    (tmp_path / "coverage.xml").write_text(COVERAGE)
    cases = read_cases(tmp_path / "junit.xml")
    assert [case.name for case in cases] == ["test_wrong", "test_gpu", "test_slow", "test_fast"]
    assert (cases[0].place, cases[0].message) == ("tests/test_a.py:30", "assert 1 == 2")
    (covered,) = read_coverage(tmp_path / "coverage.xml")
    assert (covered.covered, covered.lines, covered.missing) == (1, 4, "2–3, 5")
    (tmp_path / "junit.xml").write_text("<broken")
    assert read_cases(tmp_path / "junit.xml") == read_cases(tmp_path / "none.xml") == []


@pytest.mark.parametrize(
    ("score", "count", "interval"),
    [
        (0.5, 10, (0.2366, 0.7634)),
        (0.0, 10, (0.0, 0.2775)),
        (1.0, 10, (0.7225, 1.0)),
        (0.0, 0, (0.0, 1.0)),
        (0.9875, 480, (0.9731, 0.9943)),
    ],
)
def test_wilson_interval_is_the_textbooks(score: float, count: int, interval: tuple[float, float]) -> None:
    assert wilson(score, count) == pytest.approx(interval, abs=1e-4)


def test_a_run_ends_with_its_page_and_names_it(pipeline: Pipeline) -> None:
    stream = StringIO()
    record = pipeline.run(choose(stream, {}, quiet=False))  # type: ignore[arg-type]
    assert stream.getvalue().splitlines()[-1] == f"report .weighbridge/runs/{record.id}/report.html"
    assert (record.directory / "report.html").is_file()


def test_a_page_that_cannot_be_made_costs_the_page_alone(pipeline: Pipeline) -> None:
    """A directory of that name stands in the way; what went wrong is in the record's logs."""

    async def block(ctx: Context, needs: Mapping[str, Any]) -> Any:
        (ctx.record.artifact("report.html") / "in the way").mkdir(parents=True)
        return await passing("fine")(ctx, needs)

    pipeline.stages.clear()
    pipeline.add("build", block)
    record = pipeline.run(choose(StringIO(), {}, quiet=True))  # type: ignore[arg-type]
    assert (record.exit, record.status) == (0, "passed")
    assert "could not be made" in (record.directory / "logs" / "report.log").read_text()


def test_report_and_history_are_commands(pipeline: Pipeline) -> None:
    first = pipeline.run()

    def ci(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "WEIGHBRIDGE_CACHE": str(pipeline.cache)}
        command = [sys.executable, "-m", "ci", *arguments]
        return subprocess.run(command, cwd=pipeline.root, capture_output=True, text=True, check=False, env=environment)

    assert ci("report", first.id, "--open", "no").stdout == f"report .weighbridge/runs/{first.id}/report.html\n"
    assert ci("report", "nothing").returncode == 2
    lines = ci("history").stdout.splitlines()
    assert lines[1].split()[:2] == [first.id, "failed"]
    assert [run["id"] for run in json.loads(ci("history", "--json").stdout)] == [first.id]
    (first.directory / "run.json").write_text("[]")
    assert ci("report").returncode == 2


def test_runs_are_listed_newest_first_and_found_by_name_only(pipeline: Pipeline) -> None:
    ids = [pipeline.run().id for _ in range(3)]
    assert [run["id"] for run in last_runs(pipeline.root, 2)] == ids[:0:-1]
    assert len(table(last_runs(pipeline.root, 9))) == 4
    assert table([]) == ["no runs yet"]
    assert find_run(pipeline.root, "").name == ids[-1]
    for name in ("..", "../runs", "none"):
        with pytest.raises(UsageError):
            find_run(pipeline.root, name)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_overflow_or_complaint(pipeline: Pipeline, tmp_path: Path, width: int, dark: bool) -> None:
    page, _, _ = page_of(pipeline)
    if chromium() is None:
        pytest.skip("no chromium on PATH: the page was parsed, not shown")
    seen = computed(page, tmp_path, width=width, dark=dark)
    assert seen["overflow"] <= 0
    assert seen["shown"] == "24 of 24 on this page"
    assert seen["background"] == ("rgb(15, 20, 25)" if dark else "rgb(255, 255, 255)")
    assert seen["complaints"] == []
    assert seen["title"] != "owned"
