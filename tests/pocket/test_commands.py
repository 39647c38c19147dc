"""The commands beside `session`: running a program in one, saying what works, looking after the cache."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sessions import Session

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


@pytest.mark.parametrize(("argv", "code"), [(["sh", "-c", "exit 7"], 7), (["no-such-program"], 127), ([], 2), (["--"], 2)])
def test_the_exit_code_is_the_programs(tmp_path: Path, argv: list[str], code: int) -> None:
    assert pocket(tmp_path, "run", *argv).returncode == code


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
