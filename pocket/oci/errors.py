"""The base class of everything this package raises on purpose, under a name that users of the package may import."""

from pocket.errors import PocketError

__all__ = ["PocketError"]
