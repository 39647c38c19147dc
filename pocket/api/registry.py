"""The table of supported fields; the modules beside this one fill it."""

from __future__ import annotations

from collections.abc import Callable

from pocket.query import F, Resolver, register

REGISTRY: dict[tuple[str, str], Resolver] = {}


def field(type_: str, name: str, *, whole: bool = False, pure: bool = True) -> Callable[[F], F]:
    """Enter the function as the answer to `type_.name`; see `pocket.query.Resolver` for the options."""
    return register(REGISTRY, type_, name, whole=whole, pure=pure)
