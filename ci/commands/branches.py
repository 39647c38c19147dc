"""`branches`: how old they are, how far behind main, which are merged; `--delete` removes merged ones, after a notice."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse

    from ci.branches import Branch
    from ci.config.model import PolicyConfig


def configure(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.add_argument("--remote", default="", metavar="NAME", help="the branches of a remote, as they were fetched last")
    command.add_argument("--delete", action="store_true", help="announce the removal of merged branches, and remove those announced before")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the branches and what was done."""
    from ci.branches import branches
    from ci.config.load import load
    from ci.paths import CONFIG, cache_root, find_root

    root = find_root(Path.cwd())
    policy = load(root / CONFIG, name=CONFIG, cache=cache_root()).policy
    now = time.time()
    found = branches(root, policy.main[0], remote=arguments.remote)
    done = {branch.name: _tidy(root, branch, policy, now, arguments.remote) for branch in found} if arguments.delete else {}
    if arguments.json:
        print_json([{**asdict(branch), "advice": branch.advice(policy, now), "done": done.get(branch.name, "")} for branch in found])
        return Exit.PASSED
    print("\n".join(_table(found, policy, now, done)))
    return Exit.PASSED


def _tidy(root: Path, branch: Branch, policy: PolicyConfig, now: float, remote: str) -> str:
    """Announce or remove a branch that was merged long enough ago; returns what was done."""
    from ci.branches import DAY, notice, remove

    if not branch.merged or now - branch.merged < policy.merged_days * DAY:
        return ""
    if not branch.noticed:
        notice(root, branch, now)
        return f"announced: removed by the first --delete after {policy.notice_days} days"
    if not branch.may_go(policy, now):
        return f"announced on {time.strftime('%Y-%m-%d', time.gmtime(branch.noticed))}: stays until {policy.notice_days} days have passed"
    remove(root, branch, remote=remote)
    return f"removed; back with: git branch {branch.name} {branch.commit[:12]}"


def _table(found: list[Branch], policy: PolicyConfig, now: float, done: dict[str, str]) -> list[str]:
    from ci.branches import age

    if not found:
        return [f"no branch besides {policy.main[0]}"]
    width = max(12, *(len(branch.name) for branch in found))
    lines = [f"{'branch':<{width}}  {'last commit':>12}  {'ahead':>5} {'behind':>6}  what to do"]
    for branch in found:
        said = done.get(branch.name) or branch.advice(policy, now)
        lines.append(f"{branch.name:<{width}}  {age(now - branch.changed):>12}  {branch.ahead:>5} {branch.behind:>6}  {said}".rstrip())
    return lines
