"""`version`: which one this is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci import __version__
from ci.commands.surroundings import add_json, print_json
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the version."""
    if arguments.json:
        print_json({"weighbridge": __version__})
    else:
        print(f"weighbridge {__version__}")
    return Exit.PASSED
