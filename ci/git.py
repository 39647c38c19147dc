"""git for what must not fail silently: what is asked of it here is done, or told. What may be missing is asked by ci.facts.git."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from ci.errors import InfraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def ask(root: Path, *arguments: str, options: Sequence[str] = ()) -> str:
    """Carry out a git command in a repository and return what it prints; `options` stand before the command's name.

    Raises:
        InfraError: git refuses.

    """
    command = ["git", "-C", str(root), *options, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise InfraError(f"git {arguments[0]} failed: {said[-1] if said else f'exit code {done.returncode}'}", where=str(root))
    return done.stdout
