"""Where things lie: the repository root, its configuration, the cache, and one way to write a file so that nobody sees half of it."""

from __future__ import annotations

import os
from pathlib import Path

from ci.errors import UsageError

CONFIG = "configs/pipeline.yaml"
RUNS = ".weighbridge/runs"


def find_root(start: Path) -> Path:
    """Return the nearest directory at or above `start` that holds `configs/pipeline.yaml`."""
    for directory in (start, *start.parents):
        if (directory / CONFIG).is_file():
            return directory
    raise UsageError(f"there is no {CONFIG} here or in any directory above", hint="run this inside a repository that has one")


def cache_root() -> Path:
    """Return `$WEIGHBRIDGE_CACHE`, else `$XDG_CACHE_HOME/weighbridge`, else `~/.cache/weighbridge`; it need not exist."""
    if chosen := os.environ.get("WEIGHBRIDGE_CACHE"):
        return Path(chosen).absolute()
    if general := os.environ.get("XDG_CACHE_HOME"):
        return Path(general).absolute() / "weighbridge"
    return Path.home() / ".cache" / "weighbridge"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that a reader sees the old content or the new, also after a kill or a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(3).hex()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
