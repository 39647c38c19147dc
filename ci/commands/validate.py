"""`validate`: check the configuration; every problem is named at once, and nothing is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json, surroundings
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Say that the configuration is valid, or raise what is wrong with it."""
    from ci.config.load import ConfigError
    from ci.paths import CONFIG

    try:
        here = surroundings()
    except ConfigError as error:
        if not arguments.json:
            raise
        print_json({"file": CONFIG, "valid": False, "problems": [_shown(problem) for problem in error.problems]})
        return error.exit
    if arguments.json:
        print_json({"file": CONFIG, "valid": True, "problems": []})
        return Exit.PASSED
    print(f"{CONFIG} is valid: {len(here.stages)} stages, {len(here.config.evaluate.suites)} suites")
    return Exit.PASSED


def _shown(problem: object) -> dict[str, object]:
    return {name: getattr(problem, name) for name in ("line", "column", "message")}
