"""The secrets that the configuration declares: read from where they are before anything starts, handed to the stages that may have them.

Values live in this object and in the engine's session, to which they go through the session's own connection; never in an argument, a
plan, a record or a key. Variables that hold one are taken out of this process's environment, so that no process started from here inherits
them. A run from a fork gets none. Limit: the kernel shows the environment that this process itself was started with to its own user.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ci.errors import UsageError
from ci.paths import CONFIG
from ci.scrub import SHORTEST, Scrubber

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from ci.config.guards import SecretConfig

_PATIENCE = 60


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values by name, and who gets which; `repr` shows no value."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name → stages."""

    def of(self, stage: str) -> dict[str, str]:
        """Return what a stage gets."""
        return {name: value for name, value in self.values.items() if stage in self.stages[name]}

    def scrubber(self) -> Scrubber:
        """Return what takes the values out of everything that is written."""
        return Scrubber(self.values.values())


def resolve(
    declared: Mapping[str, SecretConfig], *, root: Path, environ: MutableMapping[str, str], stages: Iterable[str], permitted: bool
) -> Secrets:
    """Return the secrets of the stages that are to run, and take variables that hold one out of `environ`.

    Raises:
        UsageError: one cannot be had; the message names its place in the configuration.

    """
    due = set(stages)
    held = {name: environ.pop(secret.env, "") for name, secret in declared.items() if secret.env}
    if not permitted:
        return Secrets()
    values = {}
    for name, secret in declared.items():
        if not due & set(secret.stages):
            continue
        value = held[name] if secret.env else _read(name, secret, root)
        problem = f"the variable {secret.env} is not set" if secret.env and not value else _problem(value)
        if problem:
            raise _missing(name, root, problem)
        values[name] = value
    return Secrets(values, {name: tuple(declared[name].stages) for name in values})


def _read(name: str, secret: SecretConfig, root: Path) -> str:
    if secret.file:
        try:
            return (root / Path(secret.file).expanduser()).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise _missing(name, root, f"{secret.file} cannot be read: {reason}") from error
    try:
        done = subprocess.run(secret.command, cwd=root, capture_output=True, check=False, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise _missing(name, root, f"{secret.command[0]} cannot be run: {type(error).__name__}") from error
    if done.returncode != 0:
        # What it said is left out: it may have said a part of the secret.
        raise _missing(name, root, f"{secret.command[0]} ended with exit code {done.returncode}")
    return done.stdout.rstrip("\r\n")


def _problem(value: str) -> str:
    if not value:
        return "it is empty"
    return f"it has fewer than {SHORTEST} characters, which cannot be told from ordinary text in a log" if len(value) < SHORTEST else ""


def _missing(name: str, root: Path, why: str) -> UsageError:
    """Return the error, with the place at which the secret is declared."""
    from ci.config.document import parse

    line, column = parse((root / CONFIG).read_bytes()).place(("secrets", name), key=True) if (root / CONFIG).is_file() else (1, 1)
    return UsageError(f"the secret {name} cannot be had: {why}", where=f"{CONFIG}:{line}:{column}", hint="nothing was run")
