"""The commands of the command line, one module each: `configure(parser)` adds its options, `main(arguments)` does it and returns the code.

`COMMANDS` is the table that help shows. A command's module is imported only when the command is named, and imports what is slow only in
`main`; a test guards the set.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import argparse


class CommandModule(Protocol):
    """What a module of this package offers."""

    def configure(self, command: argparse.ArgumentParser) -> None:
        """Add the command's options."""
        ...

    def main(self, arguments: argparse.Namespace) -> int:
        """Carry out the command; returns its exit code."""
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """One line of the table: `name` as it is typed and as its module is called, and what help says."""

    name: str
    text: str

    def load(self) -> CommandModule:
        """Import the command's module."""
        return cast("CommandModule", import_module(f"ci.commands.{self.name}"))


COMMANDS = (
    Command("run", "carry out the plan"),
    Command("plan", "show what would run, and why not"),
    Command("graph", "show the plan as a graph"),
    Command("validate", "check the configuration"),
    Command("why", "say why a stage would run, or ran, again"),
    Command("report", "write a run's page, report.html"),
    Command("scan", "show what the last scan found, and accept it"),
    Command("history", "list the last runs"),
    Command("stages", "list the stages"),
    Command("config", "print the configuration, or its JSON Schema"),
    Command("doctor", "say what a run would meet on this machine"),
    Command("completion", "print what teaches a shell to complete commands"),
    Command("shell", "look around in the container in which a stage failed"),
    Command("approve", "record that a commit may go out, with who, when and why"),
    Command("branches", "show how old branches are and which are merged, and remove those"),
    Command("init", "write the files with which the pipeline runs in a repository that has none of them"),
    Command("version", "print the version"),
)

HIDDEN = (Command("complete", ""),)
