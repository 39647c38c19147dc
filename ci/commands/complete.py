"""`complete`: what a shell asks at each tab; not meant for people, and absent from help."""

from __future__ import annotations

import argparse

from ci.exits import Exit


def configure(command: argparse.ArgumentParser) -> None:
    """Take the words of the line, the last of which is being typed."""
    command.add_argument("--extra", action="append", default=[], help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace) -> int:
    """Print one candidate a line, with a tab and what it is."""
    from ci.completion import candidates

    for word, text in candidates(arguments.extra):
        print(f"{word}\t{text}" if text else word)
    return Exit.PASSED
