"""`approve`: record that a commit may go out, with who, when and why; a hotfix needs it before anything of it is pushed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add the commit and the reason."""
    command.add_argument("commit", metavar="COMMIT", nargs="?", default="HEAD", help="what is approved (HEAD)")
    command.add_argument("--reason", default="", metavar="WHY", help="why; kept with your name, and shown in every report of the commit")
    command.add_argument("--push", default="", metavar="REMOTE", help="also push the approval there, where CI hosts find it")
    command.add_argument("--list", action="store_true", help="show the commit's approvals, and record nothing")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Record the approval, or list those that there are."""
    from ci import approvals
    from ci.facts import git
    from ci.paths import find_root

    root = find_root(Path.cwd())
    if arguments.list:
        commit = (git(root, "rev-parse", "--verify", "--quiet", f"{arguments.commit}^{{commit}}") or "").strip()
        found = approvals.read(root, commit) if commit else ()
    else:
        found = (approvals.approve(root, arguments.commit, arguments.reason),)
        if arguments.push:
            approvals.send(root, arguments.push)
    if arguments.json:
        print_json([asdict(approval) for approval in found])
        return Exit.PASSED
    for approval in found:
        print(f"{approval.commit[:7]} approved by {approval.by} on {approval.when}: {approval.why}")
    if not found:
        print("no approval")
    elif not arguments.list and not arguments.push:
        print(f"it is known here only; CI hosts see it after: git push origin {approvals.REF}")
    return Exit.PASSED
