"""The one base class of everything pocket raises on purpose, and the errors of the store and of trees.

A message says what failed and where; the hint says what to do next. Messages of `TreeError` reach the SDK as they are, so
they are worded as the Dagger engine words them.
"""

from typing import ClassVar


class PocketError(Exception):
    """Something a user can understand and act upon; anything else that escapes is a bug."""

    #: Whether what an SDK shows ends with the hint. Not where the Dagger engine has words of its own, which programs look for.
    hint_shown: ClassVar[bool] = True

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StoreError(PocketError):
    """The cache directory cannot be used, or what it holds is not what was written."""


class TreeError(PocketError):
    """A path, pattern or file operation inside a snapshot that cannot be carried out."""

    hint_shown = False


def told(error: BaseException) -> str:
    """Give an error as an SDK shows it: what failed and, where that is ours to say, what to do."""
    if isinstance(error, PocketError) and error.hint and error.hint_shown:
        return f"{error} — {error.hint}"
    return str(error) or type(error).__name__
