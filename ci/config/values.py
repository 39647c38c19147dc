"""What the parts of the configuration's model share: kinds of values, and checks of names and paths."""

from __future__ import annotations

import re
from typing import Annotated, Any

from ci.config.limits import Limits

STRICT: dict[str, Any] = {"extra": "forbid", "use_attribute_docstrings": True}

Text = Annotated[str, Limits(min_length=1)]
Share = Annotated[float, Limits(ge=0, le=1)]
Seconds = Annotated[float, Limits(gt=0)]
Amount = Annotated[float, Limits(gt=0)]
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


def inside(path: str, what: str) -> None:
    """Refuse paths that leave the directory they are relative to: stages hand them to the engine as they are."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{what} must lie inside the repository, got {path!r}")


def named(name: str, what: str) -> None:
    """Refuse names that do not fit into file names, tags and commands."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} may hold a-z, 0-9, '.', '_' and '-' only, got {name!r}")
