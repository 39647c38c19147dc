"""The commands beside `session`: running a program in one, saying what works, looking after the cache."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sessions import Session
from terminals import on_terminal

PROGRAM = """
import anyio, dagger
async def main():
    async with dagger.connection():
        print(await dagger.dag.directory().with_new_file("f", "in a session").file("f").contents())
anyio.run(main)
"""


def pocket(cache: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    """Run a command."""
    environment = {**os.environ, "POCKET_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, "-m", "pocket", *argv], capture_output=True, text=True, check=False, env=environment, timeout=300
    )


def test_a_program_finds_the_session_in_its_environment(tmp_path: Path) -> None:
    done = pocket(tmp_path, "run", "--", sys.executable, "-c", PROGRAM)
    assert (done.returncode, done.stdout) == (0, "in a session\n"), done.stderr


@pytest.mark.parametrize(
    ("argv", "code"), [(["sh", "-c", "exit 7"], 7), (["no-such-program"], 127), (["/etc/passwd"], 126), ([], 2), (["--"], 2)]
)
def test_the_exit_code_is_the_programs(tmp_path: Path, argv: list[str], code: int) -> None:
    assert pocket(tmp_path, "run", *argv).returncode == code


def test_a_program_ends_its_own_way_when_it_is_interrupted(tmp_path: Path) -> None:
    """It still has its session then, and nothing but what it says is printed."""
    program = (
        "import os, signal, socket\n"
        "def end(*_):\n"
        "    socket.create_connection(('127.0.0.1', int(os.environ['DAGGER_SESSION_PORT']))).close()\n"
        "    print('in order', flush=True); os._exit(5)\n"
        "signal.signal(signal.SIGINT, end); print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    environment = {**os.environ, "POCKET_CACHE": str(tmp_path)}
    with on_terminal(sys.executable, "-m", "pocket", "run", "--", sys.executable, "-c", program, env=environment) as terminal:
        terminal.wait_for("ready")
        terminal.type("\x03")
        assert "Traceback" not in terminal.wait_for("in order")
        assert terminal.end() == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on(tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "POCKET_CACHE": str(tmp_path)}
    argv = [sys.executable, "-m", "pocket", "run", "sh", "-c", "echo ready; exec sleep 1000"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(120) == 128 + number


def test_a_session_that_does_not_start_is_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = pocket(tmp_path / "file" / "cache", "run", "true")
    assert done.returncode == 1
    assert "pocket: " in done.stderr


def test_the_tier_is_named(tmp_path: Path) -> None:
    assert pocket(tmp_path, "tier").stdout.strip() in ("root", "subuid", "single-uid")


def test_a_tier_that_is_none_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKET_TIER", "emperor")
    done = pocket(tmp_path, "tier")
    assert done.returncode == 1
    assert "emperor" in done.stderr
    assert "single-uid" in done.stderr


def test_doctor_says_what_works(tmp_path: Path) -> None:
    done = pocket(tmp_path, "doctor", "--json")
    found = json.loads(done.stdout)
    assert {p["status"] for p in found} <= {"ok", "warn", "fail", "info", "skip"}
    assert all(p["fix"] for p in found if p["status"] == "fail")
    assert done.returncode == int(any(p["status"] == "fail" for p in found))
    text = pocket(tmp_path, "doctor")
    assert all(p["name"] in text.stdout for p in found)


def test_the_cache_is_measured_and_made_smaller(tmp_path: Path, base_archive: Path) -> None:
    with Session(tmp_path) as session:
        session.value(*session.base(base_archive), ("withExec", {"args": ["sh", "-c", "head -c 2000000 /dev/urandom > /f"]}), "sync")
    before = pocket(tmp_path, "du")
    assert before.returncode == 0
    assert before.stdout.strip()
    layers = len(list((tmp_path / "v1" / "layers").iterdir()))
    assert layers >= 2
    assert pocket(tmp_path, "prune", "--max-bytes", "0").returncode == 0
    assert len(list((tmp_path / "v1" / "layers").iterdir())) < layers
    assert pocket(tmp_path, "prune", "--all").returncode == 0


@pytest.mark.parametrize("argv", [["prune"], ["prune", "--max-bytes"], ["prune", "--max-bytes", "many"]])
def test_prune_wants_to_know_how_much(tmp_path: Path, argv: list[str]) -> None:
    done = pocket(tmp_path, *argv)
    assert done.returncode == 2
    assert "--max-bytes" in done.stderr


def test_a_cache_that_cannot_be_opened_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for argv in (["du"], ["prune", "--all"]):
        done = pocket(tmp_path / "file" / "cache", *argv)
        assert done.returncode == 1
        assert done.stderr.startswith("pocket: ")
