"""A Dockerfile as stages of instructions, each with the line it stands on."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

import dockerfile

from pocket.errors import PocketError

KNOWN = frozenset({
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN", "SHELL",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})  # fmt: skip


class DockerfileError(PocketError):
    """A Dockerfile that cannot be read or carried out; the message names the line."""

    hint_shown = False

    def __init__(self, line: int, text: str, *, hint: str = "") -> None:
        super().__init__(f"dockerfile parse error on line {line}: {text}", hint=hint)


class TargetError(PocketError):
    """There is no stage of that name."""

    hint_shown = False


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document: its name, its text, whether variables in it are expanded, and the word that introduced it."""

    name: str
    content: str
    expand: bool
    word: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `args` are its words (one text for the shell form), `flags` its options by name."""

    name: str
    args: tuple[str, ...]
    line: int
    json: bool = False
    flags: tuple[tuple[str, str], ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    original: str = ""

    def flag(self, name: str, default: str = "") -> str:
        """Give the last value of an option; an option without a value is `true`."""
        return next((v for k, v in reversed(self.flags) if k == name), default)

    def all_flags(self, name: str) -> list[str]:
        """Give every value of an option."""
        return [v for k, v in self.flags if k == name]

    def refuse_flags(self, *allowed: str) -> None:
        """Raise for an option that the instruction does not have."""
        for name, _ in self.flags:
            if name not in allowed:
                raise DockerfileError(self.line, f"unknown flag: {name}")


@dataclass(slots=True)
class Stage:
    """`FROM base [AS name]` and what follows it."""

    index: int
    base: str
    name: str
    platform: str
    line: int
    body: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The ARGs before the first FROM, and the stages."""

    globals: tuple[Instruction, ...]
    stages: tuple[Stage, ...]

    def find(self, target: str) -> Stage:
        """Give a stage by name or number; the last one for "".

        Raises:
            PocketError: there is none.
        """
        if not target:
            return self.stages[-1]
        for stage in self.stages:
            if stage.name == target.lower() or (target.isdigit() and stage.index == int(target)):
                return stage
        stages = ", ".join(s.name or str(s.index) for s in self.stages)
        raise TargetError(f'target stage "{target}" could not be found', hint=f"stages: {stages}")


def parse(text: str) -> Dockerfile:
    """Read a Dockerfile.

    Raises:
        DockerfileError: it is not one; the message has the line.
    """
    try:
        commands = dockerfile.parse_string(text)
    except dockerfile.GoParseError as e:
        raise DockerfileError(_line_of(e, text), str(e).partition("\n")[0]) from e
    globals_: list[Instruction] = []
    stages: list[Stage] = []
    for command in commands:
        instruction = _instruction(command)
        if instruction.name == "FROM":
            stages.append(_stage(len(stages), instruction))
        elif stages:
            stages[-1].body.append(instruction)
        elif instruction.name == "ARG":
            globals_.append(instruction)
        else:
            raise DockerfileError(instruction.line, "no build stage in current context")
    if not stages:
        raise DockerfileError(1, "file with no instructions")
    return Dockerfile(tuple(globals_), tuple(stages))


def _line_of(error: dockerfile.GoParseError, text: str) -> int:
    """Find the line of an error: the parser does not tell it, but gives the same error for a text that ends there."""
    if found := re.search(r"line (\d+)", str(error)):
        return int(found[1])
    lines = text.splitlines(keepends=True)
    for number in range(1, len(lines) + 1):
        try:
            dockerfile.parse_string("".join(lines[:number]))
        except dockerfile.GoParseError as e:
            if str(e) == str(error):
                return number
    return len(lines) or 1


def parse_trigger(text: str, line: int) -> Instruction:
    """Read the instruction of an ONBUILD trigger."""
    (command,) = dockerfile.parse_string(text)
    found = _instruction(command)
    if found.name in ("FROM", "ONBUILD", "MAINTAINER"):
        raise DockerfileError(line, f"{found.name} isn't allowed as an ONBUILD trigger")
    return found


def _instruction(command: dockerfile.Command) -> Instruction:
    name = command.cmd.upper()
    if name not in KNOWN:
        raise DockerfileError(command.start_line, f"unknown instruction: {name}")
    flags = tuple(_flag(f) for f in command.flags)
    heredocs = tuple(_heredocs(command))
    args = tuple(command.value)
    if name == "ONBUILD":
        args = (re.sub(r"(?is)^\s*onbuild\s+", "", command.original),)
    return Instruction(name, args, command.start_line, command.json, flags, heredocs, command.original)


def _flag(text: str) -> tuple[str, str]:
    name, equals, value = text.removeprefix("--").partition("=")
    return name, value if equals else "true"


def _heredocs(command: dockerfile.Command) -> list[Heredoc]:
    """Pair each here-document with the word that introduced it: quoting and the dash are in the word alone."""
    words = re.findall(r"(?<!\S)\d*(<<-?(?:\"[^\"]*\"|'[^']*'|[^\s<'\"])+)", command.original.partition("\n")[0])
    found = []
    for heredoc, word in zip(command.heredocs, words, strict=False):
        content = heredoc.content
        if word.startswith("<<-"):
            content = re.sub(r"(?m)^\t+", "", content)
        found.append(Heredoc(heredoc.name, content, not ('"' in word or "'" in word), word))
    return found


def _stage(index: int, instruction: Instruction) -> Stage:
    instruction.refuse_flags("platform")
    args = instruction.args
    if len(args) == 3 and args[1].upper() == "AS":
        name = args[2].lower()
        if not re.fullmatch(r"[a-z][a-z0-9_.-]*", name):
            raise DockerfileError(instruction.line, f"invalid name for build stage: {args[2]!r}")
    elif len(args) == 1:
        name = ""
    else:
        raise DockerfileError(instruction.line, "FROM requires either one or three arguments")
    return Stage(index, args[0], name, instruction.flag("platform"), instruction.line)


def ignore_patterns(text: str) -> list[str]:
    """Give the patterns of a .dockerignore, cleaned as Docker cleans them."""
    patterns = []
    for raw in text.lstrip("\ufeff").splitlines():
        line = raw.strip()
        if not line or raw.startswith("#"):
            continue
        negated = line.startswith("!")
        path = posixpath.normpath(line[1:].strip() if negated else line).lstrip("/")
        if path and path != ".":
            patterns.append(f"!{path}" if negated else path)
    return patterns
