"""`history`: the last runs, as a table, as JSON, or as a static site with trends, durations and flakes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse

_SHOWN, _OF_SITE = 20, 500


def configure(command: argparse.ArgumentParser) -> None:
    """Add how many, and where the site goes."""
    command.add_argument("--limit", type=int, default=0, metavar="N", help=f"how many ({_SHOWN}; of a site {_OF_SITE})")
    command.add_argument("--site", default="", metavar="DIR", help="write a static site over the runs into a directory")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the last runs, the latest first, or write their site."""
    from ci.paths import cache_root, find_root
    from ci.report.history import last_runs, table

    root = find_root(Path.cwd())
    runs = last_runs(root, max(arguments.limit, 0) or (_OF_SITE if arguments.site else _SHOWN))
    if arguments.site:
        from ci.report.site import write_site

        page = write_site(root, runs, Path(arguments.site), cache_root())
        if arguments.json:
            print_json({"page": str(page), "runs": len(runs)})
        else:
            print(f"site {page} · {len(runs)} runs")
    elif arguments.json:
        print_json(runs)
    else:
        print("\n".join(table(runs)))
    return Exit.PASSED
