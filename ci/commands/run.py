"""`run`: carry out the plan."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, add_selection, print_json, selected, surroundings
from ci.errors import UsageError

if TYPE_CHECKING:
    from ci.commands.surroundings import Surroundings
    from ci.request import Request
    from ci.resume import Resumed
    from ci.selection import Selection


def configure(command: argparse.ArgumentParser) -> None:
    """Add the options of a run; `--extra` is what the command line puts everything after `--` behind."""
    add_selection(command)
    command.add_argument(
        "--resume", default="", metavar="RUN", help="go on with a run: what passed there is not repeated; last is the latest"
    )
    command.add_argument("--frozen", action="store_true", help="only pinned digests and caches, no network")
    command.add_argument("--engine", default="", metavar="ENGINE", help="pocket, dagger, or a Dagger runner host")
    command.add_argument("--keep-going", action="store_true", help="carry out what does not need a failed stage all the same")
    command.add_argument("--budget", type=minutes, default=None, metavar="MIN", help="minutes that the run may take; 0 for no limit")
    command.add_argument("--keep-failed", action="store_true", help="keep the container of a stage that fails, for shell STAGE")
    command.add_argument("--shell-on-failure", action="store_true", help="open a shell in the container of the first stage that fails")
    command.add_argument("--quiet", action="store_true", help="print only failures and the result")
    add_json(command)
    command.add_argument("--extra", action="append", default=[], help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace) -> int:
    """Run what is planned; the exit code is the run's."""
    from ci.report import choose as choose_report
    from ci.runner import execute

    request = requested(arguments)
    stream = sys.stderr if arguments.json else sys.stdout
    record = execute(request, choose_report(stream, os.environ, quiet=arguments.quiet or arguments.json))
    if arguments.json:
        print_json(record.to_json())
    if arguments.shell_on_failure:
        _look_inside(request, [entry.name for entry in record.stages.values() if entry.status == "failed"])
    return int(record.exit or 0)


def _look_inside(request: Request, failed: list[str]) -> None:
    """Open the container of the first failed stage that has one; the run's exit code stays what it is."""
    from ci.commands.shell import enter
    from ci.keep import archive_of, told

    for name in failed:
        archive = archive_of(request.cache, request.root, name)
        if told(archive):
            enter(archive, request.engine, [])
            return
    if failed:
        print(f"{', '.join(failed)} left no container to look into", file=sys.stderr)


def requested(arguments: argparse.Namespace) -> Request:
    """Return what the command line, the configuration and the surroundings come to.

    Raises:
        UsageError: they ask for something that does not exist, or is not pinned in a frozen run.

    """
    from ci import frozen, keep
    from ci.cli import STARTED
    from ci.engine import choose
    from ci.plan import make_plan, planned_stages
    from ci.policy import under_policy
    from ci.remote import opened
    from ci.request import Request

    here, keeps = surroundings(frozen=arguments.frozen), arguments.keep_failed or arguments.shell_on_failure
    selection, extra, resumed = _picked(arguments, here)
    plan = make_plan(here.config, here.facts, here.stages, selection=selection)
    config = under_policy(here.config, plan.permits)
    if selection.frozen:
        frozen.check(config, here.root)
    return Request(
        started=STARTED,
        config=config,
        facts=here.facts,
        plan=plan,
        stages=planned_stages(plan, here.stages),
        root=here.root,
        cache=here.cache,
        engine=choose(arguments.engine, config.engine, os.environ),
        extra=extra,
        keep_failed=keeps,
        keep_going=arguments.keep_going or config.run.keep_going,
        budget=arguments.budget,
        selection=selection,
        store=None if selection.frozen else opened(config.store, os.environ, cache=here.cache, may_write=plan.permits.shared_cache),
        resume=resumed,
        environment={**(frozen.ENVIRONMENT if selection.frozen else {}), **(keep.SESSION if keeps else {})},
        resolve_base=frozen.resolve if selection.frozen else None,
    )


def _picked(arguments: argparse.Namespace, here: Surroundings) -> tuple[Selection, dict[str, tuple[str, ...]], Resumed | None]:
    """Return the selection, the stage's own arguments, and the run to go on with, whose selection holds unless there is another."""
    selection, extra = replace(selected(arguments), frozen=arguments.frozen), _extra(arguments)
    if not arguments.resume:
        return selection, extra, None
    from ci.remote import opened
    from ci.resume import load
    from ci.selection import Selection

    store = None if selection.frozen else opened(here.config.store, os.environ, cache=here.cache, may_write=False)
    try:
        resumed = load(here.root, arguments.resume, store)
    finally:
        if store:
            store.close()
    return resumed.selection if selection == Selection() else selection, extra or resumed.extra, resumed


def minutes(text: str) -> float:
    """Read the budget; argparse says what is wrong with another text."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def _extra(arguments: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    if not arguments.extra:
        return {}
    if len(arguments.only) != 1:
        raise UsageError("arguments after -- go to one stage", hint="name it: run --only test -- -k name")
    return {arguments.only[0]: tuple(arguments.extra)}
