"""Reads `configs/pipeline.yaml` strictly: every problem at once, each with file:line:column.

What was found valid is kept in the cache as JSON under the digest of the text and of the model, so that the next start needs neither PyYAML
nor pydantic. The cache is trusted as far as its owner is: it lies in the user's own cache directory.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ci import __version__
from ci.config.model import Config
from ci.errors import UsageError, WeighbridgeError
from ci.hydrate import dehydrate, hydrate
from ci.paths import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ci.config.problems import Problem


class ConfigError(UsageError):
    """The configuration is wrong in one or more places; `problems` has them in the order of the file."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        lines = [f"{name}:{problem.line}:{problem.column}: {problem.message}" for problem in self.problems]
        count = f"{len(lines)} error{'s' if len(lines) > 1 else ''}. Nothing was run."
        super().__init__("\n".join([*lines, count]))


def load(path: Path, *, name: str = "", cache: Path | None = None) -> Config:
    """Return the configuration in `path`; `name` stands for it in messages.

    Raises:
        ConfigError: with every problem of the file.
        UsageError: the file cannot be read.

    """
    name = name or str(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=name) from error
    kept = cache / "config" / f"{_digest(text)}.json" if cache else None
    if kept and (config := _read(kept)):
        return config
    config = _check(text, name)
    if kept:
        _keep(kept, config)
    return config


def known(path: Path, cache: Path) -> Config | None:
    """Return the configuration in `path` if it was found valid before; None otherwise, without looking closer."""
    try:
        return _read(cache / "config" / f"{_digest(path.read_bytes())}.json")
    except OSError:
        return None


def _check(text: bytes, name: str) -> Config:
    from ci.config.problems import check

    found = check(text)
    if isinstance(found, Config):
        return found
    raise ConfigError(name, found)


def _digest(text: bytes) -> str:
    own = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(b"\0".join((text, own, __version__.encode()))).hexdigest()


def _read(kept: Path) -> Config | None:
    try:
        return hydrate(Config, json.loads(kept.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError, WeighbridgeError):
        return None


def _keep(kept: Path, config: Config) -> None:
    # A cache that cannot be written costs time, nothing else; what really needs it says so itself.
    try:
        write_atomically(kept, json.dumps(dehydrate(config)).encode())
    except OSError:
        return
