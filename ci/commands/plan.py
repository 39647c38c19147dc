"""`plan`: what would run and why not, here and now or for an event that did not happen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ci.budget import durations
from ci.commands.surroundings import add_json, add_selection, asked, selected
from ci.exits import Exit
from ci.paths import find_root
from ci.report.words import seconds
from ci.simulate import add_options

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add the options of a plan and of an event to simulate."""
    add_selection(command)
    add_json(command)
    add_options(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    plan, facts = asked(arguments, selected(arguments))
    if arguments.json:
        sys.stdout.write(plan.to_json())
        return Exit.PASSED
    print(f"{plan.subject} @ {facts.short}, {plan.event.replace('_', ' ')}" + (f" on {plan.branch}" if plan.branch else ""))
    usual = durations(find_root(Path.cwd()))
    print(f"{'stage':<14}{'do':<7}{'usually':>10}   why")
    for stage in plan.stages:
        reason = stage.why or (f"needs {', '.join(stage.needs)}" if stage.needs else "—")
        took = seconds(usual[stage.name]) if stage.do == "run" and stage.name in usual else ""
        print(f"{stage.name:<14}{stage.do:<7}{took:>10}   {reason}" + (f"    {stage.detail}" if stage.detail else ""))
    for line in (*(f"policy {applied.policy}: {applied.why}" for applied in plan.policies), facts.changed_note):
        if line:
            print(line)
    return Exit.PASSED
