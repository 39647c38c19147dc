"""The command line: argv → one command of ci/commands. Only the command that is named is imported; a test guards what that costs."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from ci import __version__
from ci.commands import COMMANDS, HIDDEN
from ci.errors import WeighbridgeError
from ci.exits import SIGNALLED

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ci.commands import Command

STARTED = time.monotonic()
"""When the program started, in monotonic seconds: what a person waits for includes the imports."""
_EXITS = """--json is understood by every command; docs/reference.md tells what each prints.

exit codes: 0 passed · 1 a stage failed · 2 usage or configuration · 3 gate blocked · 4 gate inconclusive
5 infrastructure (engine, network, registry, disk) · 6 time budget · 128+n ended by signal n"""


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = SIGNALLED + 2
    except BrokenPipeError:  # `… | head`: nobody reads on; Python would say so once more while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = SIGNALLED + 13
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Carry out one command and return its exit code; errors that a person can mend are printed, with what to do."""
    named = next((word for word in argv if not word.startswith("-")), "")
    try:
        arguments = parser(named, alone=argv[:1] == [named]).parse_args(_split(argv))
        return int(arguments.module.main(arguments))
    except SystemExit as stop:  # argparse has printed what is wrong; 2 is its code and ours
        return int(stop.code or 0)
    except WeighbridgeError as error:
        print(error, file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        return int(error.exit)


def parser(*names: str, alone: bool = False) -> argparse.ArgumentParser:
    """Return the parser of all commands, with the options of those that are named; of these `alone`, where nobody will see the others."""
    import argparse

    whole = argparse.ArgumentParser(
        prog="weighbridge",
        description="From a commit of a model repository to a pushed, evaluated, traceable artefact.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"weighbridge {__version__}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    known = [entry for entry in COMMANDS if entry.name in names] if alone else []
    for entry in known or COMMANDS:
        command = commands.add_parser(entry.name, help=entry.text, description=entry.text, allow_abbrev=False)
        if entry.name in names:
            _fill(command, entry)
    for entry in HIDDEN:
        if entry.name in names:
            _fill(commands.add_parser(entry.name, allow_abbrev=False), entry)
    return whole


def _fill(command: argparse.ArgumentParser, entry: Command) -> None:
    module = entry.load()
    module.configure(command)
    command.set_defaults(module=module)


def _split(argv: Sequence[str]) -> list[str]:
    """Put what follows `--` behind one option, so that the stage's own options never look like ours."""
    arguments = list(argv)
    if "--" not in arguments:
        return arguments
    at = arguments.index("--")
    return [*arguments[:at], *(f"--extra={item}" for item in arguments[at + 1 :])]
