"""Measure what a person waits for at the command line, beside `nox --list` and a `doit` in which nothing is to be done.

    python benchmarks/cli.py [--repository DIR] [--rounds 15] [--runs 5] [--json FILE | --page]
    python benchmarks/cli.py --tables

`--page` writes benchmarks/results/<date>-cli.json, and the text between the markers of docs/performance.md from it; `--tables` only writes
the page anew, from the latest result. No figure there is typed by hand.

Without --repository, this checkout is cloned and its pipeline run once, so that there is something to be reused; that takes minutes. nox
and doit are installed into an environment of their own. All commands take turns, round by round, so that other work on the machine meets
them alike; `cpu` is what a command itself used, which does not depend on that work. `cached` is a whole run through the engine with every
step in its cache (`run --force`); `edit` changes one line of the service and compares the run with the steps that had to run. Python may
keep bytecode, whatever this environment says: an installed program has it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import ROOT, Times, fill, machine, options, quietly, tell
from tables import command_line

_NOXFILE = """
import nox

@nox.session
def lint(session): session.run("true")

@nox.session
def tests(session): session.run("true")

@nox.session
def docs(session): session.run("true")
"""
_DODO = """
NAMES = ["validate", "build", "test", "scan", "evaluate", "package", "push"]

def _task(name, before):
    return lambda: {
        "file_dep": [__file__, *([f"{before}.out"] if before else [])], "targets": [f"{name}.out"], "actions": [f"touch {name}.out"],
    }

for before, name in zip([None, *NAMES], NAMES):
    globals()[f"task_{name}"] = _task(name, before)
"""
_RESULTS, _PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "performance.md"
_BEGIN, _END = "<!-- command line: written by benchmarks/cli.py -->", "<!-- end of command line -->"


def main() -> None:
    """Measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--repository", type=Path, default=None, help="one whose pipeline has passed; its cache is in WEIGHBRIDGE_CACHE")
    parser.add_argument("--rounds", type=int, default=15, help="how often each command is run")
    parser.add_argument("--runs", type=int, default=5, help="how often a run goes through the engine")
    parser.add_argument("--page", action="store_true", help="keep the result and write the page")
    parser.add_argument("--tables", action="store_true", help="write the page from the latest result, and measure nothing")
    arguments = parser.parse_args()
    if arguments.page:
        arguments.json = _RESULTS / f"{time.strftime('%Y-%m-%d')}-cli.json"
    if arguments.tables:
        write_page(max(_RESULTS.glob("*-cli.json")))
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-", dir=arguments.scratch) as scratch:
        tell(measure(arguments, Path(scratch)), arguments.json)
    if arguments.page:
        write_page(arguments.json)


def write_page(result: Path) -> None:
    """Put the table of a result between the markers of the page."""
    fill(_PAGE, _BEGIN, _END, command_line(json.loads(result.read_bytes()), result.name))


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run everything; gives the result."""
    repository = arguments.repository or cloned(scratch)
    wall, cpu, began = Times(), Times(), machine()
    commands = ours() | others(scratch)
    for name, (command, cwd) in commands.items():
        timed(name, command, cwd or repository, Times(), Times())  # writes bytecode, fills caches
    for _ in range(arguments.rounds):
        for name, (command, cwd) in commands.items():
            timed(name, command, cwd or repository, wall, cpu)
    for _ in range(arguments.runs):
        timed("cached", program("run", "--force"), repository, wall, cpu)
    return {"machine": began, "wall": wall.to_json(), "cpu": cpu.to_json(), "edit": edited(repository), "ended": machine()}


def program(*arguments: str) -> list[str]:
    """Give the command line of this program."""
    return [sys.executable, "-m", "ci", *arguments]


def ours() -> dict[str, tuple[list[str], Path | None]]:
    """Give name → command of what is measured in the repository."""
    return {
        "help": (program("--help"), None),
        "completion": (program("completion", "bash"), None),
        "plan": (program("plan"), None),
        "validate": (program("validate"), None),
        "no-op run": (program("run"), None),
    }


def others(scratch: Path) -> dict[str, tuple[list[str], Path | None]]:
    """Install the yardsticks and give their commands, each with the directory it runs in."""
    tools, place = scratch / "tools", scratch / "others"
    quietly(sys.executable, "-m", "venv", tools)
    quietly(tools / "bin" / "python", "-m", "pip", "install", "--quiet", "nox", "doit")
    place.mkdir()
    (place / "noxfile.py").write_text(_NOXFILE)
    (place / "dodo.py").write_text(_DODO)
    return {
        "python": ([sys.executable, "-c", "pass"], place),
        "nox --list": ([str(tools / "bin" / "nox"), "--list"], place),
        "doit": ([str(tools / "bin" / "doit")], place),
    }


def cloned(scratch: Path) -> Path:
    """Clone this checkout and run its pipeline once, with a cache of its own; gives the clone."""
    os.environ["WEIGHBRIDGE_CACHE"] = str(scratch / "cache")
    quietly("git", "clone", "--quiet", ROOT, scratch / "clone")
    done = subprocess.run(program("run"), cwd=scratch / "clone", check=False)
    if done.returncode:
        raise SystemExit("the pipeline did not pass")
    return scratch / "clone"


def timed(name: str, command: list[str], cwd: Path, wall: Times, cpu: Times) -> None:
    """Run a command once and note its time and its own and its children's processor time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    wall.add(name, time.perf_counter() - began)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu.add(name, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')[-2000:]}")


def edited(repository: Path) -> dict[str, float]:
    """Change one line of the service and build again; gives seconds of the run, of the steps that ran, and their relation."""
    (server,) = repository.glob("examples/*/src/*/server.py")
    text = server.read_text()
    try:
        server.write_text(f"{text}\nBENCHMARK = {time.time_ns()}\n")
        began = time.perf_counter()
        quietly_in(repository, *program("run", "--only", "evaluate"))
        took = time.perf_counter() - began
    finally:
        server.write_text(text)
    record = json.loads((repository / ".weighbridge" / "runs" / "latest" / "run.json").read_bytes())
    steps = sum(step["seconds"] for stage in record["stages"] for step in stage["steps"] if not step["cached"])
    return {"run": round(took, 3), "steps": round(steps, 3), "ratio": round(took / steps, 3) if steps else 0.0}


def quietly_in(directory: Path, *command: str) -> None:
    """Run a program in a directory; SystemExit when it fails."""
    done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(done.stdout.decode(errors="replace")[-2000:])


if __name__ == "__main__":
    main()
