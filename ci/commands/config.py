"""`config`: the JSON Schema of the configuration, for editors; or the configuration of this repository with all its defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json, surroundings
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add what to show."""
    command.add_argument("what", choices=["schema", "show"], help="schema: the JSON Schema, for editors; show: what holds here")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the schema, or the configuration as YAML."""
    if arguments.what == "schema":
        from ci.config.problems import schema

        print_json(schema())
        return Exit.PASSED
    from ci.hydrate import dehydrate

    held = dehydrate(surroundings().config)
    if arguments.json:
        print_json(held)
        return Exit.PASSED
    import yaml

    print(yaml.safe_dump(held, sort_keys=False, allow_unicode=True), end="")
    return Exit.PASSED
