"""What an exception means for the run: whose fault it is."""

import errno

import dagger
import gql
import httpx
import pytest
from dagger._exceptions import QueryErrorValue

from ci.errors import InfraError
from ci.exits import BUG, Exit
from ci.failures import classify, tail_of
from ci.stage import GateBlocked, StageFailed


def exec_error(stderr: str, stdout: str = "") -> dagger.QueryError:
    extensions = {"_type": "EXEC_ERROR", "cmd": ["pip", "install", "x" * 300], "exitCode": 3, "stdout": stdout, "stderr": stderr}
    value = QueryErrorValue(message="exit code: 3", extensions=extensions)
    return dagger.QueryError([value], gql.gql("{ version }"))


def test_a_failed_step_is_the_subjects_and_shows_its_last_words() -> None:
    found = classify(exec_error("\n".join(f"line {number}" for number in range(100))))
    assert isinstance(found, StageFailed)
    assert found.exit == Exit.FAILED
    assert found.message.startswith("exit code 3: pip install x")
    assert len(found.message) < 250
    assert found.tail.splitlines()[-1] == "line 99"
    assert len(found.tail.splitlines()) == 40


def test_a_step_that_said_nothing_on_stderr_shows_its_stdout() -> None:
    found = classify(exec_error("", "only here"))
    assert isinstance(found, StageFailed)
    assert found.tail == "only here"


@pytest.mark.parametrize(
    "error",
    [
        dagger.TransportError("Unexpected response from engine"),
        dagger.ClientConnectionError("refused"),
        dagger.SessionError("exited"),
        httpx.ConnectError("no route"),
        ConnectionResetError("reset"),
        TimeoutError(),
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied", "/cache"),
    ],
)
def test_engine_network_and_disk_are_infrastructure(error: Exception) -> None:
    found = classify(error)
    assert isinstance(found, InfraError)
    assert found.exit == Exit.INFRA


def test_full_disks_say_what_to_do() -> None:
    assert "WEIGHBRIDGE_CACHE" in classify(OSError(errno.ENOSPC, "No space left on device")).hint


def test_of_several_the_one_that_counts_most_is_told() -> None:
    several = ExceptionGroup("", [InfraError("a"), ExceptionGroup("", [GateBlocked("b"), ConnectionError("c")])])
    assert str(classify(several)) == "b"


def test_anything_else_is_a_bug_with_its_place_and_traceback() -> None:
    with pytest.raises(KeyError) as caught:
        dict[str, str]()["nothing"]
    found = classify(caught.value)
    assert found.exit == BUG
    assert "test_failures.py:" in str(found)
    assert "KeyError: 'nothing'" in found.tail  # type: ignore[attr-defined]


def test_the_tail_is_the_last_lines() -> None:
    assert tail_of("a\nb\n\n") == "a\nb"
