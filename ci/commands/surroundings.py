"""What commands share: where this was started, with which configuration, facts and stages, and how values are printed as JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ci.config.model import Config
    from ci.facts import Facts
    from ci.plan import Plan
    from ci.schedule import Schedule
    from ci.selection import Selection
    from ci.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where this was started."""

    root: Path
    cache: Path
    config: Config
    facts: Facts
    stages: Mapping[str, Stage]


def surroundings(*, frozen: bool = False) -> Surroundings:
    """Return root, cache, configuration, facts and stages of the working directory; when `frozen`, nothing is fetched.

    Raises:
        UsageError: there is no repository here, or its configuration is wrong.

    """
    from ci.facts import asking, collect
    from ci.paths import CONFIG, cache_root, find_root

    root, cache = find_root(Path.cwd()), cache_root()
    with asking(root) as status:  # and import what is needed besides while git looks at the files
        from ci.approvals import with_approvals
        from ci.config.load import load
        from ci.custom import all_stages

        config = load(root / CONFIG, name=CONFIG, cache=cache)
        if not (root / config.subject.path).is_dir():
            raise UsageError(f"the subject's directory {config.subject.path} does not exist", where=CONFIG)
        stages = all_stages(config, root)
        facts = with_approvals(root, config, collect(root, os.environ, status), fetching=not frozen)
    return Surroundings(root=root, cache=cache, config=config, facts=facts, stages=stages)


def asked(arguments: argparse.Namespace, selection: Selection | None = None) -> tuple[Plan, Facts]:
    """Return the plan, and the facts that it was made from: those of here and now, or of the event that is asked about."""
    from ci.approvals import with_approvals
    from ci.plan import make_plan
    from ci.simulate import is_asked_for, simulate

    here = surroundings()
    facts = here.facts
    if is_asked_for(arguments):
        facts = with_approvals(here.root, here.config, simulate(here.root, here.config, arguments))
    return make_plan(here.config, facts, here.stages, selection=selection), facts


def schedule_of(here: Surroundings) -> Schedule:
    """Return the schedule of a run that would start here and now with the configured engine."""
    from ci.engine import choose
    from ci.memo import Memo
    from ci.schedule import Schedule

    return Schedule(
        config=here.config,
        facts=here.facts,
        root=here.root,
        cache=here.cache,
        stages=here.stages,
        memo=Memo(here.cache, here.root),
        engine=choose("", here.config.engine, os.environ),
    )


def add_selection(command: argparse.ArgumentParser) -> None:
    """Add the options that pick stages."""

    def several(option: str, text: str, **more: Any) -> None:
        command.add_argument(option, action="append", default=[], metavar="STAGE", help=f"{text} (repeatable)", **more)

    several("--only", "run this stage and what it needs")
    several("--skip", "leave out this stage and what needs it")
    several("--from", "run this stage and everything after it again", dest="start")
    several("--force", "run this stage again, whatever is remembered; without a name every stage", nargs="?", const="")


def selected(arguments: argparse.Namespace) -> Selection:
    """Return what the options of `add_selection` say."""
    from ci.selection import Selection

    return Selection(
        only=tuple(arguments.only),
        skip=tuple(arguments.skip),
        start=tuple(arguments.start),
        force=tuple(name for name in arguments.force if name),
        everything="" in arguments.force,
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Add `--json`, which every command has."""
    command.add_argument("--json", action="store_true", help="print JSON")


def print_json(value: Any) -> None:
    """Print a value as JSON for people and programs."""
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))
