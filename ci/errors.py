"""The base of every error that a person is meant to read: what failed, where, and what to do next, as separate fields.

Subclasses live in the module that raises them. Anything that is not a `WeighbridgeError` is a bug and shows its traceback.
"""

from __future__ import annotations

from ci.exits import Exit


class WeighbridgeError(Exception):
    """An expected failure; `exit` says how the program ends because of it."""

    def __init__(self, message: str, *, where: str = "", hint: str = "", exit: Exit = Exit.FAILED) -> None:  # noqa: A002  the table's own name
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.exit = exit

    def __str__(self) -> str:
        """Return `where: message`, without the hint."""
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(WeighbridgeError):
    """The command line or the configuration asks for something that does not exist."""

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message, where=where, hint=hint, exit=Exit.USAGE)


class InfraError(WeighbridgeError):
    """Something outside the subject is at fault: engine, network, registry, GPU, disk.

    `lasting` says that trying again does not help: a full disk, a refused login, a machine without a GPU.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "", lasting: bool = False) -> None:
        super().__init__(message, where=where, hint=hint, exit=Exit.INFRA)
        self.lasting = lasting
