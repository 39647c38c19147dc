"""`JSONValue` and `Error`: plain data that programs pass around."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pocket.api.registry import field
from pocket.api.trees import read_bytes, view
from pocket.errors import PocketError
from pocket.graph import Leaf

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj


@dataclass(frozen=True, slots=True)
class Value:
    """A JSON text, kept as it was written."""

    text: str = "null"

    def load(self) -> Any:
        """Give the value that the text stands for."""
        return json.loads(self.text)


def _plain(data: Any) -> Any:
    """Give the data as Go holds them: all numbers are floats, those without a fraction are written without one."""
    if isinstance(data, dict):
        return {k: _plain(v) for k, v in data.items()}
    if isinstance(data, list):
        return [_plain(v) for v in data]
    if isinstance(data, bool) or not isinstance(data, int | float):
        return data
    number = float(data)
    return int(Decimal(repr(number))) if number.is_integer() and abs(number) < 1e21 else number


def _written(data: Any, **options: Any) -> str:
    """Write data as Go does: names sorted, and no sign that means something in HTML."""
    text = json.dumps(_plain(data), ensure_ascii=False, sort_keys=True, **options)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _value(data: Any) -> Value:
    return Value(_written(data, separators=(",", ":")))


def _as(v: Value, kind: type, name: str) -> Any:
    data = v.load()
    if data is None and kind in (str, int):
        return kind()
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise PocketError(f"value is not {name}")
    return data


@field("Query", "json")
def new(_: Engine, _q: None) -> Value:
    return Value()


@field("File", "asJSON")
async def as_json(e: Engine, f: Leaf) -> Value:
    return _checked(read_bytes(await view(e, f), f.path).decode("utf-8", "replace"))


def _checked(text: str) -> Value:
    try:
        json.loads(text)
    except ValueError as e:
        raise PocketError(f"invalid JSON: {e}") from e
    return Value(text)


@field("JSONValue", "newString")
def new_string(_: Engine, _v: Value, value: str) -> Value:
    return _value(value)


@field("JSONValue", "newBoolean")
def new_boolean(_: Engine, _v: Value, value: bool) -> Value:
    return _value(value)


@field("JSONValue", "newInteger")
def new_integer(_: Engine, _v: Value, value: int) -> Value:
    return Value(str(value))


@field("JSONValue", "withContents")
def with_contents(_: Engine, _v: Value, contents: str) -> Value:
    return _checked(contents)


@field("JSONValue", "asString")
def as_string(_: Engine, v: Value) -> str:
    return str(_as(v, str, "a string"))


@field("JSONValue", "asBoolean")
def as_boolean(_: Engine, v: Value) -> bool:
    return bool(_as(v, bool, "a boolean"))


@field("JSONValue", "asInteger")
def as_integer(_: Engine, v: Value) -> int:
    return int(_as(v, int, "an integer"))


@field("JSONValue", "asArray")
def as_array(_: Engine, v: Value) -> list[Value]:
    return [_value(item) for item in _as(v, list, "an array")]


@field("JSONValue", "fields")
def fields(_: Engine, v: Value) -> list[str]:
    return sorted(_as(v, dict, "an object"))


@field("JSONValue", "field")
def field_(_: Engine, v: Value, path: list[str]) -> Value:
    data = v.load()
    for name in path:
        if not isinstance(data, dict):
            raise PocketError(f"can't lookup field '{name}' in non-object value")
        if name not in data:
            raise PocketError(f"no such field: '{name}'")
        data = data[name]
    return _value(data)


@field("JSONValue", "withField")
def with_field(_: Engine, v: Value, path: list[str], value: Obj) -> Value:
    data = v.load()
    data = data if isinstance(data, dict) else {}
    here = data
    for name in path[:-1]:
        inner = here.get(name)
        here[name] = inner if isinstance(inner, dict) else {}
        here = here[name]
    if path:
        here[path[-1]] = value.state.load()
    return _value(data)


@field("JSONValue", "contents")
def contents(_: Engine, v: Value, pretty: bool, indent: str) -> str:
    return _written(v.load(), indent=indent) if pretty else v.text


# --- errors as values ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ErrorValue:
    """An error that a program made, with named JSON values."""

    message: str
    values: tuple[tuple[str, str], ...] = ()


@field("Query", "error")
def error(_: Engine, _q: None, message: str) -> ErrorValue:
    return ErrorValue(message)


@field("Error", "message")
def error_message(_: Engine, e: ErrorValue) -> str:
    return e.message


@field("Error", "withValue")
def error_with_value(_: Engine, e: ErrorValue, name: str, value: str) -> ErrorValue:
    return replace(e, values=(*e.values, (name, _checked(value).text)))


@field("Error", "values")
def error_values(_: Engine, e: ErrorValue) -> list[tuple[str, str]]:
    return list(e.values)


@field("ErrorValue", "name")
def error_value_name(_: Engine, v: tuple[str, str]) -> str:
    return v[0]


@field("ErrorValue", "value")
def error_value_value(_: Engine, v: tuple[str, str]) -> str:
    return v[1]
