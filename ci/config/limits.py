"""Limits of configuration values, as pydantic understands them without being imported: a run in which nothing changed reads none of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a number, or the least length of a text or list; annotate a type with it."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    min_length: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Put the limits into the schema that pydantic made for the type itself."""
        limits = {"ge": self.ge, "gt": self.gt, "le": self.le, "min_length": self.min_length}
        return {**handler(source), **{name: limit for name, limit in limits.items() if limit is not None}}

    def describe(self) -> str:
        """Return the bounds in words: `between 0 and 1`."""
        if self.ge is not None and self.le is not None:
            return f"between {self.ge} and {self.le}"
        words = {"at least": self.ge, "more than": self.gt, "at most": self.le}
        return " and ".join(f"{word} {limit}" for word, limit in words.items() if limit is not None)
