"""What could be typed next, from the very parser that reads it; and the few lines that teach a shell to ask.

The shell calls `weighbridge complete -- WORD...` at each tab, so this imports the parser and nothing slow: stages come from a configuration
that was read before, runs from the names of their directories.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from ci.paths import CONFIG, RUNS, cache_root

_RUNS = 50
SCRIPTS = {
    "bash": """_weighbridge() {
  local IFS=$'\\n'
  COMPREPLY=($(weighbridge complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1))
}
complete -o default -F _weighbridge weighbridge
""",
    "zsh": """#compdef weighbridge
_weighbridge() {
  local -a found
  found=("${(@f)$(weighbridge complete -- "${(@)words[2,CURRENT]}" 2>/dev/null | sed 's/:/\\\\:/g; s/\\t/:/')}")
  [[ -n "$found" ]] && _describe weighbridge found || _files
}
compdef _weighbridge weighbridge
""",
    "fish": """complete -c weighbridge -a '(weighbridge complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
""",
}


def candidates(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return (word, help) of all that could stand where the last of `words` stands, and begins like it."""
    before, typed = list(words[:-1]), words[-1] if words else ""
    found = _commands() if _named(before) is None else _of_command(before)
    return [(word, text) for word, text in found if word.startswith(typed) and (typed.startswith("-") or not word.startswith("-"))]


def _named(before: Sequence[str]) -> str | None:
    return next((word for word in before if not word.startswith("-")), None)


def _commands() -> list[tuple[str, str]]:
    from ci.commands import COMMANDS

    return [*((entry.name, entry.text) for entry in COMMANDS), ("--help", "show all commands"), ("--version", "show the version")]


def _of_command(before: list[str]) -> list[tuple[str, str]]:
    from ci.commands import COMMANDS

    entry = next((entry for entry in COMMANDS if entry.name == _named(before)), None)
    if entry is None or "--" in before:
        return []
    command = argparse.ArgumentParser(allow_abbrev=False)
    entry.load().configure(command)
    actions = command._actions  # noqa: SLF001  argparse has no other way to ask
    last = next((action for action in actions if before[-1] in action.option_strings), None)
    if last is not None and last.nargs != 0:
        return list(_values(last))
    options = [
        (name, action.help or "")
        for action in actions
        if action.help != argparse.SUPPRESS
        for name in action.option_strings
        if name.startswith("--")
    ]
    positional = [action for action in actions if not action.option_strings]
    return [*(value for action in positional for value in _values(action)), *options]


def _values(action: argparse.Action) -> Iterator[tuple[str, str]]:
    """Give what an option or argument may be; nothing where the shell's own completion of file names serves."""
    if action.choices:
        yield from ((str(choice), "") for choice in action.choices)
    elif action.metavar == "STAGE":
        yield from ((name, "stage") for name in _stages())
    elif action.metavar == "RUN":
        yield from ((name, "run") for name in _runs())
    elif action.metavar == "ENGINE":
        yield from (("pocket", "the embedded engine"), ("dagger", "a Dagger engine"))


def _root() -> Path | None:
    here = Path.cwd()
    return next((directory for directory in (here, *here.parents) if (directory / CONFIG).is_file()), None)


def _stages() -> list[str]:
    from ci.config.load import known
    from ci.stages import STAGES

    root = _root()
    config = known(root / CONFIG, cache_root()) if root else None
    return [*STAGES, *(name for name, own in config.stages.items() if own.use)] if config else list(STAGES)


def _runs() -> list[str]:
    root = _root()
    if root is None or not (root / RUNS).is_dir():
        return []
    return sorted((path.name for path in (root / RUNS).iterdir() if not path.name.startswith(".")), reverse=True)[:_RUNS]
