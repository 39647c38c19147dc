"""Facts of an event that did not happen: `plan --event pr --label X --base main` asks what that event would do with this commit.

What is not said is taken from git, never from the CI host's environment, so that a simulation says the same everywhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ci.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from ci.config.model import Config
    from ci.facts import Event, Facts

EVENTS: dict[str, Event] = {
    "push": "push",
    "pr": "pull_request",
    "mr": "pull_request",
    "pull_request": "pull_request",
    "tag": "tag",
    "schedule": "schedule",
    "manual": "manual",
}
_OF_REQUESTS = ("label", "base", "draft", "fork", "number", "reason")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that simulate an event."""
    group = command.add_argument_group("what an event would do", "facts that are not given come from git")
    group.add_argument("--event", choices=[*EVENTS], help="the event; pr when an option of pull or merge requests is given")
    group.add_argument("--base", default="", metavar="BRANCH", help="branch that the request goes to; main by default")
    group.add_argument("--label", action="append", default=[], metavar="LABEL", help="label of the request (repeatable)")
    group.add_argument("--reason", action="append", default=[], metavar="LABEL: WHY", help="line of the request's description (repeatable)")
    group.add_argument("--draft", action="store_true", help="the request is a draft")
    group.add_argument("--fork", action="store_true", help="the request comes from a fork")
    group.add_argument("--number", type=int, default=0, metavar="N", help="number of the request")
    group.add_argument("--branch", default="", metavar="BRANCH", help="branch of the commit instead of the one checked out")
    group.add_argument("--tag", default="", metavar="TAG", help="tag of the commit")
    group.add_argument("--author", default="", metavar="NAME", help="who started the run")


def is_asked_for(options: argparse.Namespace) -> bool:
    """Tell whether any option simulates an event."""
    return bool(options.event or options.branch or options.tag or options.author or _given(options))


def simulate(root: Path, config: Config, options: argparse.Namespace) -> Facts:
    """Return the facts of the event that the options describe.

    Raises:
        UsageError: the options contradict each other.

    """
    from ci.facts import with_changes, working_tree
    from ci.hosts import reasons

    given, tree = _given(options), working_tree(root)
    event: Event = EVENTS.get(options.event or "", "pull_request" if given else "tag" if options.tag else "push")
    if given and event != "pull_request":
        raise UsageError(f"--{given[0]} belongs to a pull or merge request", hint=f"leave out --event {options.event}, or say --event pr")
    if (event == "tag") != bool(options.tag):
        raise UsageError("--tag and --event tag belong together", hint="plan --event tag --tag v1.0.0")
    branch = "" if event == "tag" else options.branch or tree.branch
    facts = replace(tree, event=event, branch=branch, tag=options.tag, author=options.author)
    if event != "pull_request":
        return facts
    labels = tuple(sorted(set(options.label)))
    said = reasons("\n".join(options.reason), labels)
    base = options.base or config.policy.main[0]
    facts = replace(facts, base_branch=base, labels=labels, reasons=said, draft=options.draft, fork=options.fork, number=options.number)
    return with_changes(root, facts)


def _given(options: argparse.Namespace) -> list[str]:
    return [name for name in _OF_REQUESTS if getattr(options, name)]
