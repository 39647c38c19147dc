"""What the test stage reads from pytest's reports, made here by pytest itself."""

import os
import subprocess
import sys
from pathlib import Path

import dagger
import pytest
from dagger._exceptions import QueryErrorValue
from gql import GraphQLRequest

from ci.stage import InfraError, StageFailed
from ci.stages import STAGES, common, kept
from ci.stages import test as test_stage

TESTS = """
import pytest

def helper(value):
    assert value == 3, "arithmetic"

def test_good(): pass

class TestMore:
    @pytest.mark.parametrize("value", [2])
    def test_bad(self, value):
        helper(value)

@pytest.fixture
def broken():
    raise RuntimeError("no fixture")

def test_error(broken): pass

@pytest.mark.skip
def test_skipped(): pass
"""


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    argv = ["-q", "--junitxml=junit.xml", "--override-ini=junit_family=xunit1", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"]
    subprocess.run([sys.executable, "-m", "pytest", *argv], cwd=tmp_path, capture_output=True, check=False)
    return tmp_path


def test_outcomes_and_places_of_failures(reports: Path) -> None:
    report = test_stage.read_junit(reports / "junit.xml", "examples/one")
    assert (report.passed, report.failed, report.skipped) == (1, 2, 1)
    bad, error = report.findings
    assert bad.name == "tests/test_some.py::TestMore::test_bad[2]"
    assert bad.file == "examples/one/tests/test_some.py"
    assert bad.line == 5  # where the assertion is
    assert "arithmetic" in bad.message
    assert error.name == "tests/test_some.py::test_error"
    assert "no fixture" in error.message


def test_no_report_is_nothing_run(tmp_path: Path) -> None:
    assert test_stage.read_junit(tmp_path / "none.xml", ".") == test_stage._Report(0, 0, 0, ())
    assert test_stage.read_coverage(tmp_path / "none.xml") == 0.0


def test_coverage_is_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "coverage.xml"
    path.write_text('<coverage lines-valid="200" lines-covered="187" branches-valid="10" branches-covered="0"/>')
    assert test_stage.read_coverage(path) == pytest.approx(93.5)


@pytest.mark.parametrize("said", ["WARNING: Retrying (Retry(total=4", "OSError: [Errno 28] No space left on device", "ReadTimeoutError"])
def test_a_step_that_blames_the_machine_is_infrastructure(said: str) -> None:
    with pytest.raises(InfraError, match="installing"), common.subject_fault("installing"):
        raise exec_error(said)


def test_any_other_failed_step_is_the_subjects_with_its_last_words() -> None:
    with pytest.raises(StageFailed) as caught, common.subject_fault("installing", hint="check the lock"):
        raise exec_error("\n".join(f"line {n}" for n in range(100)) + "\nHASHES DO NOT MATCH")
    assert caught.value.tail.splitlines()[-1] == "HASHES DO NOT MATCH"
    assert len(caught.value.tail.splitlines()) == 60
    assert caught.value.hint == "check the lock"
    assert "exit code 1" in str(caught.value)


def exec_error(stderr: str) -> dagger.QueryError:
    """Make the error that the SDK makes of an engine's answer."""
    extensions = {"_type": "EXEC_ERROR", "cmd": ["pip", "install"], "exitCode": 1, "stdout": "", "stderr": stderr}
    return dagger.QueryError([QueryErrorValue("exit code: 1", [], [], extensions)], GraphQLRequest("{ version }"))


def test_stages_need_only_earlier_ones() -> None:
    names = list(STAGES)
    for stage in STAGES.values():
        assert all(names.index(need) < names.index(stage.name) for need in stage.needs)


def test_sizes_and_counts_in_words() -> None:
    assert (common.plural(1, "layer"), common.plural(2, "layer")) == ("1 layer", "2 layers")
    assert (common.megabytes(835_182), common.megabytes(76_543_598)) == ("0.8 MB", "77 MB")


def test_the_cache_keeps_the_newest_archives(tmp_path: Path) -> None:
    for number in range(kept._KEPT + 3):
        with kept.incoming(tmp_path) as part:
            part.write_bytes(b"archive")
            kept.keep(tmp_path, part, f"sha256:{number:064x}")
            os.utime(kept.archive_path(tmp_path, f"sha256:{number:064x}"), (number, number))
    stale = tmp_path / "artifacts" / ".1-killed.tar"
    stale.write_bytes(b"half")
    os.utime(stale, (1, 1))
    with kept.incoming(tmp_path) as part:
        part.write_bytes(b"archive")
        kept.keep(tmp_path, part, "sha256:new")
    names = {path.name for path in (tmp_path / "artifacts").iterdir()}
    assert len(names) == kept._KEPT
    assert "new.tar" in names
    assert f"{0:064x}.tar" not in names


def test_an_archive_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with kept.incoming(tmp_path) as part:
            part.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list((tmp_path / "artifacts").iterdir()) == []
