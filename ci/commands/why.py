"""`why`: why a stage would run, or ran, again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json, schedule_of, surroundings
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add the stage that is asked about."""
    command.add_argument("stage", metavar="STAGE", help="name of the stage")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the explanation."""
    from ci.report.why import explain
    from ci.selection import unknown_stage

    here = surroundings()
    if arguments.stage not in here.stages:
        raise unknown_stage(arguments.stage, here.stages)
    schedule = schedule_of(here)
    lines = explain(arguments.stage, schedule)
    schedule.save()
    if arguments.json:
        print_json({"stage": arguments.stage, "lines": lines})
    else:
        print("\n".join(lines))
    return Exit.PASSED
