"""Checks a configuration text against the model and words what is wrong: what, where, and what was probably meant."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from ci.config.document import Document, Path, Problem, parse
from ci.config.limits import Limits
from ci.config.model import Config

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Problem", "check", "schema"]

_UNKNOWN = {"unexpected_keyword_argument", "extra_forbidden"}
_MISSING = {"missing", "missing_argument", "missing_keyword_only_argument"}
_KINDS = {
    "string_type": "text (put it in quotes)",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "dataclass_type": "a mapping",
}


def check(text: bytes) -> Config | list[Problem]:
    """Return the configuration, or every problem that it has."""
    document = parse(text)
    if document.problems:
        return document.problems
    try:
        # Through JSON, because strict validation takes a list for a tuple there and refuses "1" for 1 all the same.
        return _adapter().validate_json(json.dumps({} if document.data is None else document.data, default=str), strict=True)
    except ValidationError as error:
        return [_problem(detail, document) for detail in _telling(error.errors())]


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Config]:
    return TypeAdapter(Config)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration, for editors."""
    return _adapter().json_schema()


def _telling(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out what only follows from another mistake.

    A list is "too short" when its items were refused, and a key is "missing" when it was misspelt; the other error says what is wrong.
    """
    locations = [detail["loc"] for detail in details]
    misspelt = {
        (*detail["loc"][:-1], close[0])
        for detail in details
        if detail["type"] in _UNKNOWN and (close := difflib.get_close_matches(str(detail["loc"][-1]), _fields(detail["loc"][:-1]), n=1))
    }

    def tells(detail: ErrorDetails) -> bool:
        here = detail["loc"]
        if detail["type"] == "too_short":
            return not any(loc[: len(here)] == here and loc != here for loc in locations)
        return detail["type"] not in _MISSING or here not in misspelt

    return [detail for detail in details if tells(detail)]


def _problem(detail: ErrorDetails, document: Document) -> Problem:
    path: Path = tuple(detail["loc"])
    kind = detail["type"]
    if kind in _UNKNOWN:
        return Problem(*document.place(path, key=True), f'unknown key "{path[-1]}"{_meant(str(path[-1]), _fields(path[:-1]))}')
    if kind in _MISSING:
        return Problem(*document.place(path[:-1], key=True), f"{_dotted(path)} is missing")
    if kind == "value_error":
        return _own(path, str(detail["ctx"]["error"]), document)
    return Problem(*document.place(path), f"{_dotted(path)} {_wording(kind, path, detail)}")


def _own(path: Path, message: str, document: Document) -> Problem:
    """Word an error of the model's own checks, which name the field first."""
    first = message.split(" ", 1)[0]
    if first in _fields(path):
        path, message = (*path, first), message.removeprefix(first).lstrip()
    return Problem(*document.place(path), f"{_dotted(path)} {message}" if message.startswith("m") else f"{_dotted(path)}: {message}")


def _wording(kind: str, path: Path, detail: ErrorDetails) -> str:
    got = json.dumps(detail["input"], ensure_ascii=False, default=str)
    got = got if len(got) <= 60 else got[:57] + "..."
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, got {got}"
    if kind == "literal_error":
        allowed = [str(value) for value in _literals(_type_at(path))]
        choices = " or ".join(f'"{value}"' for value in allowed)
        return f"must be {choices}, got {got}{_meant(str(detail['input']), allowed)}"
    if kind in {"too_short", "string_too_short"}:
        return "must not be empty"
    if kind in {"greater_than_equal", "less_than_equal", "greater_than", "less_than"}:
        return f"must be {_range(_type_at(path))}, got {got}"
    return f"is not valid: {detail['msg']}, got {got}"


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the file"


def _meant(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else f" (known here: {', '.join(known)})" if known else ""


def _type_at(path: Path) -> Any:
    """Return the annotation at `path`, with its limits."""
    here: Any = Config
    for part in path:
        bare = _bare(here)
        if dataclasses.is_dataclass(bare) and isinstance(bare, type):
            here = typing.get_type_hints(bare, include_extras=True).get(str(part), Any)
        else:
            arguments = typing.get_args(bare) or (Any,)
            here = arguments[0] if isinstance(part, int) else arguments[-1]
    return here


def _bare(annotation: Any) -> Any:
    while typing.get_origin(annotation) in {typing.Annotated, typing.Union, types.UnionType}:
        annotation = next(member for member in typing.get_args(annotation) if member is not type(None))
    return annotation


def _fields(path: Path) -> list[str]:
    bare = _bare(_type_at(path))
    return [field.name for field in dataclasses.fields(bare)] if dataclasses.is_dataclass(bare) else []


def _literals(annotation: Any) -> tuple[Any, ...]:
    bare = _bare(annotation)
    return typing.get_args(bare) if typing.get_origin(bare) is typing.Literal else ()


def _range(annotation: Any) -> str:
    """Return the limits of a type, or of the member of an optional one that has any."""
    for member in (annotation, *typing.get_args(annotation)):
        for limits in typing.get_args(member) if typing.get_origin(member) is typing.Annotated else ():
            if isinstance(limits, Limits):
                return limits.describe()
    return "different"
