"""What a Dockerfile says about its service: command, port, environment, user, directory; of its last stage, as Docker would run it.

Only the settings are taken over; what its RUN lines install is not understood. The parser is the one that pocket and Docker use.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(slots=True)
class Service:
    """The settings of a Dockerfile's last stage."""

    image: str = ""
    """What the last stage is made FROM."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    port: int = 0
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    copies: tuple[str, ...] = ()
    """What all stages copy from the context; `.` when that is everything, or cannot be told."""

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the whole command line."""
        return (*self.entrypoint, *self.command)


def read(path: Path) -> Service | None:
    """Return what the Dockerfile says; None when there is none or it cannot be parsed."""
    import dockerfile

    try:
        commands = dockerfile.parse_file(str(path))
    except (OSError, dockerfile.GoIOError, dockerfile.GoParseError):
        return None
    service, copies = Service(), [source for command in commands for source in _copied(command)]
    for command in commands:
        if command.cmd.upper() == "FROM":
            service = Service(image=command.value[0])
        else:
            _take(service, command.cmd.upper(), command)
    service.copies = (".",) if "." in copies else tuple(dict.fromkeys(copies))
    return service if service.image else None


def _copied(command: Any) -> list[str]:
    """Return what a command takes from the context."""
    if any(flag.startswith("--mount") and "type=bind" in flag for flag in command.flags):
        return ["."]
    if command.cmd.upper() not in {"COPY", "ADD"} or any(flag.startswith("--from") for flag in command.flags):
        return []
    sources = [source for source in command.value[:-1] if "://" not in source and not source.startswith(("<<", "git@"))]
    return ["." if "$" in source or ".." in source else source.strip("/").removeprefix("./") or "." for source in sources]


def _take(service: Service, name: str, command: Any) -> None:
    if name == "ENTRYPOINT":
        service.entrypoint, service.command = _argv(command), ()
    elif name == "CMD":
        service.command = _argv(command)
    elif name == "EXPOSE":
        numbers = [value.partition("/")[0] for value in command.value]
        service.port = next((int(number) for number in numbers if number.isdigit()), service.port)
    elif name == "ENV":
        service.env.update(_pairs(command.value))
    elif name == "USER" and "$" not in command.value[0]:
        service.user = command.value[0].partition(":")[0]
    elif name == "WORKDIR" and command.value[0].startswith("/"):
        service.workdir = command.value[0]


def _argv(command: Any) -> tuple[str, ...]:
    if command.json:
        return tuple(command.value)
    text = command.value[0]
    # A line without anything of the shell's is the same without a shell, which then does not stand between a signal and the service.
    return ("sh", "-c", text) if set(text) & set("$&|;<>`*?(){}~#") else tuple(shlex.split(text))


def _pairs(values: tuple[str, ...]) -> Mapping[str, str]:
    """Return name → value of an ENV line; the parser gives names and values in turn, between some of them an `=`."""
    words = [value for value in values if value != "="]
    pairs = zip(words[::2], words[1::2], strict=False)
    return {name: " ".join(shlex.split(value)) for name, value in pairs if "$" not in value}
