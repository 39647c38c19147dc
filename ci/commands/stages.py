"""`stages`: the stages and what each needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json, surroundings
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ci.stage import Stage


def configure(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the stages in the order of the report."""
    stages = _stages()
    if arguments.json:
        print_json([{"name": stage.name, "needs": list(stage.needs)} for stage in stages.values()])
        return Exit.PASSED
    for stage in stages.values():
        print(f"{stage.name:<14}" + (f"needs {', '.join(stage.needs)}" if stage.needs else "needs nothing"))
    return Exit.PASSED


def _stages() -> Mapping[str, Stage]:
    """Return the stages of the repository that this is in; outside of one, the standard ones."""
    from ci.paths import CONFIG
    from ci.stages import STAGES

    inside = any((directory / CONFIG).is_file() for directory in (Path.cwd(), *Path.cwd().parents))
    return surroundings().stages if inside else STAGES
