"""`stages`: the stages and what each needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the stages in the order of the report."""
    from ci.stages import STAGES

    if arguments.json:
        print_json([{"name": stage.name, "needs": list(stage.needs)} for stage in STAGES.values()])
        return Exit.PASSED
    for stage in STAGES.values():
        print(f"{stage.name:<14}" + (f"needs {', '.join(stage.needs)}" if stage.needs else "needs nothing"))
    return Exit.PASSED
