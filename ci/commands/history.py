"""`history`: the last runs, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add how many."""
    command.add_argument("--limit", type=int, default=20, metavar="N", help="how many (20)")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the last runs, the latest first."""
    from ci.paths import find_root
    from ci.report.history import last_runs, table

    runs = last_runs(find_root(Path.cwd()), max(arguments.limit, 0))
    if arguments.json:
        print_json(runs)
    else:
        print("\n".join(table(runs)))
    return Exit.PASSED
