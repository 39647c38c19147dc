"""`doctor`: what a run would meet on this machine, and what to do about what is missing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json, surroundings
from ci.errors import WeighbridgeError
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse

    from ci.commands.surroundings import Surroundings


def configure(command: argparse.ArgumentParser) -> None:
    """Add the engine to ask about."""
    command.add_argument("--engine", default="", metavar="ENGINE", help="pocket, dagger, or a Dagger runner host")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the answers; 5 when something that a run needs is missing."""
    from ci.doctor import examine
    from ci.paths import cache_root

    here: Surroundings | WeighbridgeError
    try:
        here = surroundings()
    except WeighbridgeError as error:
        here = error
    answers = list(examine(here, cache_root(), arguments.engine))
    if arguments.json:
        print_json([asdict(answer) for answer in answers])
    for answer in answers if not arguments.json else ():
        print(f" {answer.status:<5} {answer.name:<20} {answer.detail}")
        if answer.fix and answer.status in {"warn", "fail"}:
            print(f"{'':<28}fix: {answer.fix}")
    failed = {answer.name for answer in answers if answer.status == "fail"}
    if failed == {"configuration"}:
        return Exit.USAGE
    return Exit.INFRA if failed else Exit.PASSED
