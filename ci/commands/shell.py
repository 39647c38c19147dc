"""`shell`: look around in the container in which a stage failed, on the terminal that this was started on, or with one command."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING

from ci.commands.surroundings import print_json, surroundings
from ci.errors import InfraError, UsageError
from ci.exits import Exit

if TYPE_CHECKING:
    from pathlib import Path

    from ci.engine import EngineChoice


def configure(command: argparse.ArgumentParser) -> None:
    """Add the stage; what follows `--` is the command."""
    command.add_argument("stage", metavar="STAGE", help="a stage that failed; after --, a command instead of a shell")
    command.add_argument("--engine", default="", metavar="ENGINE", help="pocket, dagger, or a Dagger runner host")
    command.add_argument("--again", action="store_true", help="run the stage again, also where its failed container was kept")
    command.add_argument("--json", action="store_true", help="print what is kept of the stage as JSON, and open nothing")
    command.add_argument("--extra", action="append", default=[], help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace) -> int:
    """Open the kept container; without one, run the stage until it fails, and open that one."""
    import os

    from ci.engine import choose
    from ci.keep import archive_of, told
    from ci.selection import unknown_stage

    here = surroundings()
    if arguments.stage not in here.stages:
        raise unknown_stage(arguments.stage, here.stages)
    if not here.stages[arguments.stage].engine:
        raise UsageError(f"{arguments.stage} works without a container")
    archive = archive_of(here.cache, here.root, arguments.stage)
    if arguments.json:
        print_json({"stage": arguments.stage, "archive": str(archive) if told(archive) else None, **told(archive)})
        return Exit.PASSED
    if arguments.again or not told(archive):
        code = _run(arguments.stage, arguments.engine)
        if not told(archive):
            print(f"{arguments.stage} left no failed container", file=sys.stderr)
            return code
    return enter(archive, choose(arguments.engine, here.config.engine, os.environ), arguments.extra)


def enter(archive: Path, engine: EngineChoice, command: list[str]) -> int:
    """Open a kept container with the engine that can; returns the shell's exit code.

    Raises:
        InfraError: there is no Dagger CLI, which alone can open a terminal of a Dagger engine.

    """
    from ci.keep import told

    known = told(archive)
    said = f", whose last step was: {known['command']}" if known.get("command") else ""
    print(f"the container of run {known.get('run', '')}{said}. What is changed here is gone afterwards.", file=sys.stderr)
    if engine.kind == "pocket":
        line = [*engine.cli, "shell", str(archive), *(["--", *command] if command else [])]
    elif engine.cli:
        terminal = ["terminal", *([f"--cmd={','.join(command)}"] if command else [])]
        line = [*engine.cli, "core", "container", "import", f"--source={archive}", *terminal]
    else:
        raise InfraError("there is no Dagger CLI here", hint=f"--engine pocket, or load the image archive {archive} elsewhere")
    return subprocess.run(line, check=False).returncode


def _run(stage: str, engine: str) -> int:
    """Run the stage in a process of its own, whose output is not the shell's."""
    option = ["--engine", engine] if engine else []
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from ci.cli import main; main()"
    package = str(_package())
    line = [sys.executable, "-P", "-c", program, package, "run", "--only", stage, "--keep-failed", *option]
    return subprocess.run(line, check=False, stdout=sys.stderr).returncode or int(Exit.PASSED)


def _package() -> Path:
    from pathlib import Path

    return Path(__file__).resolve().parents[2]
