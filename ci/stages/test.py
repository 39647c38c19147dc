"""test: the subject's own tests, in a container with its dependencies and the tests' on top; coverage has a floor.

JUnit and coverage reports reach the record also when tests fail, and so do pytest's own last words.
"""

from __future__ import annotations

import re
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagger import ReturnType

from ci.causes import hint_of
from ci.failures import ended_with, hint_for
from ci.stage import Context, Finding, StageFailed, StageResult, files_of
from ci.stages import common, test_files
from ci.stages.common import host_tree
from ci.stages.places import from_root

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dagger

_TAIL_LINES = 80
_PYTEST_CODES = {2: "pytest was interrupted", 3: "pytest had an internal error", 4: "pytest was called wrongly", 5: "no tests were found"}
_PLACE = re.compile(r"^(\S+?\.py):(\d+): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result(StageResult):
    """What the tests came to."""

    passed: int
    skipped: int
    coverage: float
    """Line coverage in percent; 0 when it is not measured."""


@dataclass(frozen=True, slots=True)
class _Report:
    passed: int
    failed: int
    skipped: int
    findings: tuple[Finding, ...]


async def run(ctx: Context, needs: Mapping[str, Any]) -> Result:  # noqa: ARG001  every stage is called alike
    """Run pytest and read its reports."""
    code, output, reports, container = await _pytest(ctx)
    report = read_junit(reports / "junit.xml", ctx.config.subject.path)
    covered = read_coverage(reports / "coverage.xml")
    prefix = "".join(files_of(ctx.config, ""))
    from_root(reports / "junit.xml", reports / "coverage.xml", subject=ctx.subject, prefix=prefix, workdir=ctx.config.build.workdir)
    tail = "\n".join(output.rstrip().splitlines()[-_TAIL_LINES:])
    if report.failed:
        first = report.findings[0].name.rpartition("::")[2].partition("[")[0] if report.findings else ""
        raise StageFailed(
            f"{report.failed} failed, {report.passed} passed",
            tail=tail,
            findings=report.findings,
            again=("-k", first) if first else (),
            container=container,
        )
    if code != 0:
        raise StageFailed(
            _PYTEST_CODES.get(code, f"pytest: {ended_with(code)}"), tail=tail, hint=hint_for(code) or hint_of(output), container=container
        )
    test = ctx.config.test
    if test.coverage and not ctx.extra and covered < test.floor:
        raise StageFailed(
            f"coverage {covered:.1f} % is below the floor {test.floor:g} %", tail=tail, hint="the lines not covered are in coverage.xml"
        )
    parts = [f"{report.passed} passed"]
    parts += [f"{report.skipped} skipped"] if report.skipped else []
    summary = ", ".join(parts) + (f" · coverage {covered:.1f} % (floor {test.floor:g})" if test.coverage else "")
    return Result(summary, report.passed, report.skipped, covered)


async def _pytest(ctx: Context) -> tuple[int, str, Path, dagger.Container]:
    """Run the tests in their container; returns pytest's exit code, what it said, where its reports are, and the container."""
    config, test = ctx.config, ctx.config.test
    with common.subject_fault("installing the tests' requirements", hint=f"check {test.requirements}"):
        environment = await common.installed(ctx, config.build.requirements, test.requirements).sync()
    measured = [f"--cov={test.coverage}", "--cov-report=xml:/reports/coverage.xml", "--cov-report=term:skip-covered", "--cov-fail-under=0"]
    arguments = ["--junitxml=/reports/junit.xml", "--override-ini=junit_family=xunit1", "-p", "no:cacheprovider", "--color=no"]
    container = environment.with_mounted_directory(config.build.workdir, host_tree(ctx, ctx.subject, test_files(config)))
    container = container.with_env_variable("PATH", common.PATH).with_env_variable(
        "PYTHONPATH", f"{config.build.workdir}/{config.subject.source}"
    )
    for name, value in sorted(config.build.env.items()):
        container = container.with_env_variable(name, value)
    prepared, before = common.scrubbing(ctx, "/reports")
    container = await (
        common.once(ctx, container.with_workdir(config.build.workdir).with_env_variable("COVERAGE_FILE", "/tmp/coverage"))
        .with_exec(["mkdir", "-p", "/reports"])
        .with_(common.with_secrets(ctx, ctx.secrets))
        .with_(prepared)
        .with_exec(
            [*before, "python3", "-m", "pytest", test.path, *arguments, *(measured if test.coverage else []), *test.args, *ctx.extra],
            expect=ReturnType.ANY,
        )
        .sync()
    )
    output = await container.stdout() + await container.stderr()
    reports = ctx.record.artifact("junit.xml").parent
    with tempfile.TemporaryDirectory(dir=ctx.cache) as scratch:
        await container.directory("/reports").export(scratch)
        for report in sorted(Path(scratch).iterdir()):
            ctx.record.artifact(report.name).write_bytes(report.read_bytes())
    ctx.record.artifact("pytest.txt").write_text(output, encoding="utf-8")
    return await container.exit_code(), output, reports, container


def read_junit(path: Path, prefix: str) -> _Report:
    """Count outcomes of a JUnit report and find the place of each failure; `prefix` is the subject's directory."""
    if not path.is_file():
        return _Report(0, 0, 0, ())
    passed = failed = skipped = 0
    findings = []
    for case in _root(path).iter("testcase"):
        problem = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        if problem is not None:
            failed += 1
            findings.append(_finding(case, problem, prefix))
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return _Report(passed, failed, skipped, tuple(findings))


def _finding(case: ET.Element, problem: ET.Element, prefix: str) -> Finding:
    file, line = case.get("file", ""), int(case.get("line") or -1) + 1
    # The last place within the test's own file is where it failed; deeper frames are the subject's or a library's.
    own = [found for found in _PLACE.findall(problem.text or "") if found[0] == file]
    if own:
        line = int(own[-1][1])
    names = (case.get("classname") or "").rpartition(".")[2]
    inside = f"{names}::" if names and not file.endswith(f"{names}.py") else ""
    message = (problem.get("message") or problem.text or "failed").strip().splitlines() or ["failed"]
    base = "" if prefix in {"", "."} else prefix.rstrip("/") + "/"
    return Finding(message[0], f"{base}{file}" if file else "", max(line, 0), f"{file}::{inside}{case.get('name', '')}")


def read_coverage(path: Path) -> float:
    """Return the line coverage of a Cobertura report in percent; 0 when there is none."""
    if not path.is_file():
        return 0.0
    root = _root(path)
    valid, covered = int(root.get("lines-valid") or 0), int(root.get("lines-covered") or 0)
    return 100 * covered / valid if valid else 0.0


def _root(path: Path) -> ET.Element:
    # expat refuses entity bombs by itself since 2.4.1, and reads no external entity.
    return ET.parse(path).getroot()  # noqa: S314
