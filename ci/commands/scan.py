"""`scan`: what the last scan found, and taking that over into the reviewed file of accepted findings."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.commands.surroundings import add_json, print_json
from ci.errors import UsageError
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add what is accepted, and why."""
    command.add_argument("--update-baseline", action="store_true", help="accept what was found, and drop entries that match nothing")
    command.add_argument("--reason", default="", metavar="WHY", help="why it is harmless; stands with each entry that is added")
    command.add_argument("--rule", default="*", metavar="PATTERN", help="only findings of these rules")
    command.add_argument("--file", default="*", metavar="PATTERN", help="only findings in these files")
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Show the findings of the last run, or accept them."""
    from ci.config.load import load
    from ci.paths import CONFIG, RUNS, find_root

    root = find_root(Path.cwd())
    report = _read(root / RUNS / "latest" / "scan.json")
    found = [one for one in report["found"] if fnmatchcase(one["rule"], arguments.rule) and fnmatchcase(one["file"], arguments.file)]
    if not arguments.update_baseline:
        if arguments.json:
            print_json({**report, "found": found})
            return Exit.PASSED
        for one in found:
            place = f"{one['file']}:{one['line']}" if one["line"] else one["file"]
            print(f"{one['severity']:<6} {one['rule']:<28} {place}\n       {one['message']}")
        print(f"{len(found)} not accepted, {len(report['accepted'])} accepted")
        return Exit.PASSED
    from ci.stages.scan import baseline

    name = load(root / CONFIG, name=CONFIG).scan.baseline
    added, dropped = baseline.update(
        root / name, name, found=found, accepted=report["accepted"], unused=report["unused"], reason=arguments.reason
    )
    if arguments.json:
        print_json({"baseline": name, "added": added, "dropped": dropped})
    else:
        print(f"{name}: {added} added, {dropped} dropped. Have it reviewed.")
    return Exit.PASSED


def _read(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError("the last run has no scan", hint="run --only scan, then again") from error
    return report
