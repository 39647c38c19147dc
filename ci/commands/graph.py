"""`graph`: the plan as text, Mermaid, Graphviz or JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, asked
from ci.exits import Exit
from ci.simulate import add_options

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add the formats and the options of an event to simulate."""
    command.add_argument("--format", choices=["text", "mermaid", "dot"], default="text", help="text (the default), Mermaid or Graphviz")
    add_json(command)
    add_options(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the graph; as JSON it is the plan, whose stages name their needs."""
    from ci.graph import FORMATS

    plan, _ = asked(arguments)
    sys.stdout.write(plan.to_json() if arguments.json else FORMATS[arguments.format](plan))
    return Exit.PASSED
