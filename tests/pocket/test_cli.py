"""The command line: what is understood, what it answers with, and what it loads for that."""

import os
import subprocess
import sys

import pytest

from pocket import __version__, cli


@pytest.mark.parametrize("argv", [[], ["help"], ["--help"], ["-h"], ["-v", "--debug", "help"]])
def test_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == cli.USAGE


def test_every_command_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("session", "run", "shell", "doctor", "tier", "du", "prune", "version"):
        assert f"\n  {command}" in cli.USAGE


def test_an_unknown_command_is_a_mistake_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["nope"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "unknown command 'nope'" in said.err
    assert "usage: pocket" in said.err


def test_version_by_module() -> None:
    done = subprocess.run([sys.executable, "-m", "pocket", "version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"pocket {__version__}\n"


def test_a_session_prints_its_line_before_it_loads_what_requests_need() -> None:
    """Nothing of the query engine or of registries is imported on the way to the line."""
    code = (
        "import sys, pocket.session\n"
        "heavy = {'graphql', 'httpx', 'pocket.api', 'pocket.query', 'pocket.oci.client', 'opentelemetry', 'dagger'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"
