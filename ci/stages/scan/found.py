"""What the scan finds: rule, severity, place, and a key by which a reviewed finding is known again after its line moved."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Severity = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Found:
    """One finding. It never holds a secret's value: it is written to records, pages and terminals."""

    rule: str
    """`secret:AWS Access Key`, `B602`, `licence`, an advisory's name."""
    severity: Severity
    message: str
    """What it is and what to do."""
    file: str
    """Relative to the repository root, or `image:/path` for what only the image holds."""
    line: int
    key: str
    """Equal for the same finding in another line; says nothing of a secret's value."""


def key_of(*parts: str) -> str:
    """Return a short digest of what identifies a finding."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]


def at_least(severity: Severity, limit: Severity | Literal["never"]) -> bool:
    """Tell whether a severity is as high as a limit; the limit `never` is reached by none."""
    return limit != "never" and SEVERITIES.index(severity) >= SEVERITIES.index(limit)
