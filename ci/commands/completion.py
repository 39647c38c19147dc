"""`completion`: the lines that teach a shell to complete this program's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.commands.surroundings import add_json, print_json
from ci.exits import Exit

if TYPE_CHECKING:
    import argparse


def configure(command: argparse.ArgumentParser) -> None:
    """Add the shells."""
    command.add_argument("shell", choices=["bash", "zsh", "fish"], help='for bash and zsh: eval "$(weighbridge completion bash)"')
    add_json(command)


def main(arguments: argparse.Namespace) -> int:
    """Print the shell's lines."""
    from ci.completion import SCRIPTS

    script = SCRIPTS[arguments.shell]
    if arguments.json:
        print_json({"shell": arguments.shell, "script": script})
    else:
        print(script, end="")
    return Exit.PASSED
