"""Arguments as the schema wants them: what a client sends is checked before a resolver sees it.

Without this, a number in the place of a path would fail deep inside an operation, with words that mean nothing to whoever sent it,
or not fail at all. A single value stands for a list of one, as GraphQL has it; IDs become the objects that they name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pocket import schema
from pocket.errors import PocketError

if TYPE_CHECKING:
    from pocket.schema import ArgSpec

_LARGEST = 2**31  # GraphQL's Int has 32 bits
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


class RequestError(PocketError):
    """The request itself is wrong: no such type, field, argument or object."""


def coerce(arg: ArgSpec, value: Any, load: Callable[[object], Any]) -> Any:
    """Give an argument's value as resolvers take it; `load` finds the object with an ID.

    Raises:
        RequestError: it is of another type.
    """
    if value is None:
        return None
    if arg.list:
        values = value if isinstance(value, list) else [value]
        if None in values:
            raise RequestError(f'Expected value of type "{arg.type}!", found null.')
        return [_one(arg, v, load) for v in values]
    if arg.id_of is not None and value == "" and not arg.required:
        return None
    return _one(arg, value, load)


def _one(arg: ArgSpec, value: Any, load: Callable[[object], Any]) -> Any:
    if arg.id_of is not None:
        return _object(arg.id_of, value, load)
    match arg.type:
        case "Boolean":
            return _checked(value, isinstance(value, bool), "Boolean", "a non boolean value")
        case "Int":
            number = isinstance(value, int) and not isinstance(value, bool)
            _checked(value, number, "Int", "non-integer value")
            return _checked(value, -_LARGEST <= value < _LARGEST, "Int", "non 32-bit signed integer value")
        case "Float":
            return _checked(value, isinstance(value, int | float) and not isinstance(value, bool), "Float", "non numeric value")
    if (members := schema.enums().get(arg.type)) is not None:
        if not isinstance(value, str) or value not in members:
            raise RequestError(f'Value "{_shown(value)}" does not exist in "{arg.type}" enum.')
        return value
    if (fields := schema.inputs().get(arg.type)) is not None:
        return _input(arg.type, fields, value, load)
    return _text(_checked(value, isinstance(value, str), arg.type, "a non string value"))


def _checked(value: Any, good: bool, type_: str, what: str) -> Any:  # noqa: FBT001 - the outcome of a check
    if not good:
        raise RequestError(f"{type_} cannot represent {what}: {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return value[:80] if isinstance(value, str) else f"{value!r:.80}"


def _text(value: str) -> str:
    """Replace halves of characters, which no encoding has; those that stand for a byte of a file name are kept."""
    return value if value.isascii() else _NO_BYTE.sub("\ufffd", value)


def _object(type_: str, value: Any, load: Callable[[object], Any]) -> Any:
    found = load(value)
    if not schema.is_a(found.type, type_):
        raise RequestError(f"expected a {type_}, got a {found.type}")
    return found


def _input(type_: str, fields: dict[str, ArgSpec], value: Any, load: Callable[[object], Any]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f'Expected value of type "{type_}", found {_shown(value)}.')
    if unknown := value.keys() - fields.keys():
        raise RequestError(f'Field "{min(unknown)}" is not defined by type "{type_}".')
    missing = [name for name, spec in fields.items() if spec.required and value.get(name) is None]
    if missing:
        raise RequestError(f'Field "{type_}.{missing[0]}" of required type "{fields[missing[0]].type}!" was not provided.')
    return {name: coerce(fields[name], v, load) for name, v in value.items()}
