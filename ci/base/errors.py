"""The one error of choosing and making a base image."""

from __future__ import annotations

from ci.errors import WeighbridgeError
from ci.exits import Exit


class BaseError(WeighbridgeError):
    """No base image can be had: an error of the machine, not of the repository."""

    def __init__(self, message: str, *, where: str = "base", hint: str = "", exit: Exit = Exit.INFRA) -> None:  # noqa: A002
        super().__init__(message, where=where, hint=hint, exit=exit)
