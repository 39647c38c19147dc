"""The command line of pocket. `session` is what SDKs start, so it is decided before anything else is loaded."""

from __future__ import annotations

import sys

USAGE = """usage: pocket COMMAND

  session              serve one Dagger SDK session (SDKs start this: _EXPERIMENTAL_DAGGER_CLI_BIN=pocket)
  run [--] CMD…        run a program with a session in its environment
  shell IMAGE [-- CMD…]   a shell, or a command, in a throw-away container of an image or archive (shell --help)
  doctor [--json]      say what works on this machine, and how to mend what does not
  tier                 print the tier that would be used: root, subuid or single-uid
  du [--json]          say what the cache holds
  prune --max-bytes N | --all [--json]   make the cache smaller: what was used longest ago goes
  version              print the version

The cache is $POCKET_CACHE, else $WEIGHBRIDGE_CACHE/pocket, else ~/.cache/weighbridge/pocket.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; gives the exit code (0 fine, 1 failed, 2 usage)."""
    argv = sys.argv[1:] if argv is None else argv
    while argv and argv[0] in ("-s", "--silent", "-d", "--debug", "-v", "--verbose"):
        argv = argv[1:]
    command, rest = (argv[0], argv[1:]) if argv else ("help", [])
    if command == "session":
        from pocket.session import main as session

        return session(rest)
    if command in ("help", "--help", "-h"):
        print(USAGE, end="")
        return 0
    from pocket import commands

    return commands.run(command, rest)
