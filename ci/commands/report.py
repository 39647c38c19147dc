"""`report`: write a run's page again, from its record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json
from ci.errors import UsageError
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add the run and whether to show its page."""
    command.add_argument("run", metavar="RUN", nargs="?", default="", help="name of the run; the latest by default")
    command.add_argument("--open", choices=["yes", "no"], default="no", help="whether to show it in the browser (no)")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from ci.paths import find_root
    from ci.report.history import find_run
    from ci.report.html import write

    root = find_root(Path.cwd())
    directory = find_run(root, arguments.run)
    try:
        page = write(directory, root)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"no page can be made of this record: {error}", where=directory.name, hint="is it of this version?") from error
    place = page.relative_to(root.resolve())
    if arguments.json:
        print_json({"run": directory.name, "page": str(place)})
    else:
        print(f"report {place}")
    if arguments.open == "yes":
        import webbrowser

        webbrowser.open(page.as_uri())
    return Exit.PASSED
