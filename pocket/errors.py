"""The one base class of everything pocket raises on purpose, and the errors of the store and of trees.

A message says what failed and where; the hint says what to do next. Messages of `TreeError` reach the SDK as they are, so
they are worded as the Dagger engine words them.
"""


class PocketError(Exception):
    """Something a user can understand and act upon; anything else that escapes is a bug."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StoreError(PocketError):
    """The cache directory cannot be used, or what it holds is not what was written."""


class TreeError(PocketError):
    """A path, pattern or file operation inside a snapshot that cannot be carried out."""
