"""The site over many runs: trends, durations and flakes from records alone, shown by a browser without complaint."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browsers import axe, chromium, computed, violations

from ci.errors import InfraError
from ci.report import trends
from ci.report.chart import chart
from ci.report.history import last_runs
from ci.report.parts import page_of
from ci.report.site import write_site
from ci.report.timeline import costs, timeline

EVIL = "<script>document.title='owned'</script>"
JUNIT = '<testsuites><testsuite><testcase name="test_a" file="tests/test_a.py" line="1" time="1">{}</testcase></testsuite></testsuites>'


def entry(name: str, status: str = "passed", **more: Any) -> dict[str, Any]:
    known = {"name": name, "status": status, "why": "", "summary": "", "started": 0.0, "seconds": 2.0, "from_run": "", "result": None}
    return {**known, "execs": None, "failure": None, **more}


def record(root: Path, number: int, *, status: str = "passed", commit: str = "", test: str = "passed", score: float = 0.9) -> str:
    """Write the record of a run as the runner does."""
    name = f"20261101-1200{number:02d}-abcdef0"
    directory = root / ".weighbridge" / "runs" / name
    directory.mkdir(parents=True)
    suites = {"suites": [{"name": "text", "score": score, "floor": 0.8, "samples": 100, "truncated": 0}]}
    failure = {"message": EVIL, "exit": 1, "hint": "", "tail": "", "findings": [], "again": []}
    run = {
        "schema": 1,
        "id": name,
        "weighbridge": "0",
        "subject": "small",
        "status": status,
        "exit": 0 if status == "passed" else 1,
        "started": f"2026-11-01T12:00:{number:02d}Z",
        "seconds": 10.0 + number,
        "facts": {"host": "local", "event": "push", "commit": commit or f"{number:040d}", "branch": EVIL, "dirty": []},
        "stages": [
            entry("test", test, seconds=3.0 + number, failure=failure if test == "failed" else None),
            entry("evaluate[instruct]", "passed", result=suites, started=3.0, waited=1.5, waited_for="a GPU", gpus=["GPU-1", "GPU-2"]),
            entry(
                "build",
                execs={"ran": 1, "cached": 1},
                steps=[
                    {"command": f"pip install {EVIL}", "cached": False, "started": 1.0, "seconds": 1.5},
                    {"command": "true", "cached": True, "started": 2.5, "seconds": 0.0},
                ],
            ),
            entry("push", "reused", seconds=0.0, from_run="before"),
        ],
    }
    (directory / "run.json").write_text(json.dumps(run))
    (directory / "junit.xml").write_text(JUNIT.format('<failure message="no"/>' if test == "failed" else ""))
    return name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make six runs: two of one commit that did not agree, and two of another that did."""
    root = tmp_path / "repository"
    for number, status in enumerate(("passed", "failed"), 1):
        record(root, number, status=status, test=status, commit="a" * 40)
    for number in (3, 4):
        record(root, number, commit="b" * 40, score=0.9 + number / 100)
    for number in (5, 6):
        record(root, number)
    return root


def site(root: Path) -> Path:
    return write_site(root, last_runs(root, 100), root.parent / "site", root.parent / "cache")


def test_flakes_are_outcomes_that_differ_for_one_commit(root: Path) -> None:
    runs = last_runs(root, 100)
    found = {flake.name: (flake.commits, flake.judged) for flake in trends.flakes(runs, root / ".weighbridge" / "runs")}
    assert found == {"stage test": (1, 2), "tests/test_a.py::test_a": (1, 2)}
    assert trends.flake_rate(runs) == (2, 1)


def test_what_is_no_verdict_on_a_clean_tree_is_no_flake(root: Path) -> None:
    directory = root / ".weighbridge" / "runs"
    for path in directory.glob("*/run.json"):
        run = json.loads(path.read_text())
        if run["status"] == "failed":
            run["stages"][0]["failure"]["exit"] = 5
            run["status"] = "infra"
        path.write_text(json.dumps(run))
    assert trends.flakes(last_runs(root, 100), directory) == []
    assert trends.flake_rate(last_runs(root, 100)) == (1, 0)
    for path in directory.glob("*/run.json"):
        path.write_text(path.read_text().replace('"dirty": []', '"dirty": ["x"]'))
    assert trends.flake_rate(last_runs(root, 100)) == (0, 0)


def test_trends_are_by_suite_and_variant_and_times_by_stage(root: Path) -> None:
    runs = last_runs(root, 100)[::-1]
    (trend,) = trends.scores(runs)
    assert (trend.name, trend.floor) == ("text [instruct]", 0.8)
    assert [point.value for point in trend.points] == pytest.approx([0.9, 0.9, 0.93, 0.94, 0.9, 0.9])
    assert [point.value for point in trends.durations(runs).points] == [11.0, 13.0, 14.0, 15.0, 16.0]
    slowest = trends.times(runs)[0]
    assert (slowest.name, slowest.count, slowest.median, slowest.last) == ("test", 5, 7.0, 9.0)


def test_the_site_stands_alone_and_says_nothing_as_markup(root: Path) -> None:
    page = site(root)
    text = page.read_text()
    assert re.findall(r"<h2 [^>]*>([^<]+)", text) == ["Scores", "Durations", "Flakes", "Runs"]
    assert EVIL not in text
    linked = re.findall(r'href="(runs/[^"]+)"', text)
    assert len(linked) == 6
    for link in linked:
        shown = (page.parent / link).read_text()
        assert EVIL not in shown
        for inner in re.findall(r'href="((?:logs/|samples)[^"]+)"', shown):
            assert ((page.parent / link).parent / inner).exists()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


def test_an_empty_site_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    assert "no runs yet" in write_site(tmp_path / "repository", [], tmp_path / "site", tmp_path).read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="the site cannot be written"):
        write_site(tmp_path / "repository", [], tmp_path / "file" / "site", tmp_path)


def test_a_record_of_another_version_costs_its_page_alone(root: Path) -> None:
    newest = last_runs(root, 1)[0]["id"]
    path = root / ".weighbridge" / "runs" / newest / "run.json"
    run = json.loads(path.read_text())
    for stage in run["stages"]:
        del stage["why"]
    path.write_text(json.dumps(run))
    page = site(root)
    assert f"runs/{newest}/report.html" not in page.read_text()
    assert len(list(page.parent.glob("runs/*/report.html"))) == 5


def test_a_chart_of_one_value_and_of_equal_ones_has_room() -> None:
    for values in ((0.0,), (0.5, 0.5)):
        points = tuple(trends.Point("run", "2026-11-01T00:00:00Z", value) for value in values)
        drawn = chart(trends.Trend("t", points), write=lambda value: f"{value:.2f}")
        assert "nan" not in drawn
        assert drawn.count("<circle") == len(values)


def test_steps_and_waiting_are_in_the_timeline_and_costs_add_up(root: Path) -> None:
    run = last_runs(root, 1)[0]
    shown = timeline(run)
    assert "2 steps of the engine" in shown
    assert "waited 1.5 s for a GPU" in shown
    assert shown.count('class="bar') == 4  # what took no time has none
    assert ["4.0 s" in costs(run), "13.0 s" in costs(run)] == [True, True]
    assert costs({**run, "stages": []}) == ""
    run["stages"][2]["steps"] = [{"command": "old", "cached": False, "seconds": 1.0}]
    assert timeline(run).count('class="bar') == 3


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_overflow_or_complaint(root: Path, tmp_path: Path, width: int, dark: bool) -> None:
    page = site(root)
    if chromium() is None:
        pytest.skip("no chromium on PATH: the page was written, not shown")
    seen = computed(page, tmp_path, width=width, dark=dark)
    assert seen["overflow"] <= 0
    assert seen["background"] == ("rgb(15, 20, 25)" if dark else "rgb(255, 255, 255)")
    assert (seen["complaints"], seen["title"]) == ([], "small: 6 runs")


@pytest.mark.parametrize("dark", [False, True])
def test_axe_has_nothing_serious_against_the_pages(root: Path, tmp_path: Path, dark: bool) -> None:
    script = axe()
    if chromium() is None or script is None:
        pytest.skip("not checked: chromium on PATH and WEIGHBRIDGE_AXE are needed")
    page = site(root)
    for each in (page, next(page.parent.glob("runs/*/report.html"))):
        found = violations(each, tmp_path, script, dark=dark)
        assert [problem for problem in found if problem[0] in {"serious", "critical"}] == []


def test_axe_would_see_what_is_wrong(tmp_path: Path) -> None:
    """A picture without a text: were the check blind, it would pass everything."""
    script = axe()
    if chromium() is None or script is None:
        pytest.skip("not checked: chromium on PATH and WEIGHBRIDGE_AXE are needed")
    page = tmp_path / "page.html"
    page.write_text(page_of("t", '<main><h1>t</h1><img src="data:,"></main>'))
    assert "image-alt" in {rule for _, rule, _ in violations(page, tmp_path, script, dark=False)}
