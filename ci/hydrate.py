"""Plain dataclasses ↔ JSON values, for what this program wrote itself and therefore trusts.

This is not validation (pydantic does that, see ci/config/load.py): it exists because a run in which nothing changed must not pay for
importing pydantic. It knows dataclasses, tuples, lists, mappings, optional values, literals, paths and scalars, nothing else.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")
_SCALARS = frozenset({str, int, float, bool, type(None)})
_PLAIN = (Any, *_SCALARS)


def dehydrate(value: Any) -> Any:
    """Return the JSON value of a dataclass, path, tuple, mapping or scalar."""
    if type(value) in _SCALARS:  # nearly all are
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: dehydrate(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [dehydrate(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): item if type(item) in _SCALARS else dehydrate(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    return value


def hydrate(kind: type[T], value: Any) -> T:
    """Return `value`, which `dehydrate` made, as an instance of `kind`; missing fields take their defaults, unknown ones are left out."""
    return cast("T", _build(kind, value))


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    if kind in _PLAIN or value is None:
        return value
    if dataclasses.is_dataclass(kind):
        hints = _hints(cast("type", kind))
        known = {field.name for field in dataclasses.fields(kind) if field.init}
        return cast("Any", kind)(**{name: _build(hints[name], item) for name, item in value.items() if name in known})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _build(arguments[0], value)
    if origin in {typing.Union, types.UnionType}:
        return _build(next(member for member in arguments if member is not type(None)), value)
    if origin is tuple:
        members = arguments if arguments[-1] is not Ellipsis else arguments[:1] * len(value)
        return tuple(_build(member, item) for member, item in zip(members, value, strict=False))
    if origin is list:
        return [_build(arguments[0], item) for item in value]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict(value) if arguments[1] in _PLAIN else {key: _build(arguments[1], item) for key, item in value.items()}
    return Path(value) if kind is Path else value
