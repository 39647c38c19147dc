"""`config`: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add what to show."""
    command.add_argument("what", choices=["schema"], help="schema: the JSON Schema, for editors")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:  # noqa: ARG001  the schema is JSON, with and without --json
    """Print the schema."""
    from ci.config.problems import schema

    print_json(schema())
    return Exit.PASSED
