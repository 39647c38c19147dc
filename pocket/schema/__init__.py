"""Dagger's API as data: what fields there are, what they take and give, and the answer to the introspection query.

The files beside this one are made by `tools/make_schema.py` from the Dagger SDK. The table serves the query engine without
graphql-core; the introspection answers are prepared, so that an SDK's first request costs one decompression. The whole of
Dagger's API is here, also what pocket does not support: an SDK refuses a field that is missing from the schema with an unhelpful
error of its own, while pocket can say what is not supported and what to do instead.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "DEPRECATED",
    "LIST",
    "NULLABLE",
    "ArgSpec",
    "FieldSpec",
    "answer_introspection",
    "answer_name",
    "enums",
    "fields",
    "fingerprint",
    "inputs",
    "is_a",
    "possible_types",
    "scalars",
    "sdl",
]

LIST, NULLABLE, DEPRECATED = 1, 2, 4  # the flags of a row in table.json

_HERE = Path(__file__).parent  # importlib.resources would double the time this module takes to import


class ArgSpec(NamedTuple):
    """An argument, or a field of an input object.

    `type` is the element's type when `list` is set; list elements are never null. `default` is a plain value (an enum's is its
    member name), None when there is none. `id_of` names the object (or "Node") whose ID is expected.
    """

    type: str
    list: bool
    required: bool
    default: Any
    id_of: str | None


class FieldSpec(NamedTuple):
    """A field of an object or interface; `type` is the element's type when `list` is set."""

    type: str
    list: bool
    nullable: bool
    args: dict[str, ArgSpec]
    deprecated: bool


@cache
def _table() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((_HERE / "table.json").read_bytes())
    return loaded


_NO_ARGS: dict[str, ArgSpec] = {}


def _arg(type_name: str, flags: int, default: Any = None, id_of: str | None = None) -> ArgSpec:
    return ArgSpec(type_name, bool(flags & LIST), not flags & NULLABLE and default is None, default, id_of)


def _field(type_name: str, flags: int, args: list[list[Any]] | None = None) -> FieldSpec:
    # Most fields take no argument: they share one empty dictionary, which nobody may change.
    specs = {row[0]: _arg(*row[1:]) for row in args} if args else _NO_ARGS
    return FieldSpec(type_name, bool(flags & LIST), bool(flags & NULLABLE), specs, bool(flags & DEPRECATED))


class _Fields(Mapping[str, dict[str, FieldSpec]]):
    """The fields by type; a type is made from its rows when it is first asked for, as a session uses a dozen of seventy."""

    __slots__ = ("_made", "_rows")

    def __init__(self, rows: dict[str, list[list[Any]]]) -> None:
        self._rows = rows
        self._made: dict[str, dict[str, FieldSpec]] = {}

    def __getitem__(self, name: str) -> dict[str, FieldSpec]:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = {row[0]: _field(*row[1:]) for row in self._rows[name]}
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@cache
def fields() -> Mapping[str, dict[str, FieldSpec]]:
    """Give every field: object or interface name -> field name -> what it is. Shared: do not change it."""
    return _Fields(_table()["fields"])


@cache
def inputs() -> dict[str, dict[str, ArgSpec]]:
    """Give every input object: name -> field name -> what it is."""
    return {name: {row[0]: _arg(*row[1:]) for row in rows} for name, rows in _table()["inputs"].items()}


def enums() -> dict[str, dict[str, str]]:
    """Give every enum: name -> member -> the member it stands for (`ImageLayerCompression.GZIP` stands for `Gzip`)."""
    found: dict[str, dict[str, str]] = _table()["enums"]
    return found


@cache
def scalars() -> frozenset[str]:
    """Give the names of the scalars that Dagger adds to GraphQL's own: JSON, Platform, Void and one ID type per object."""
    return frozenset(_table()["scalars"])


@cache
def possible_types(interface: str) -> frozenset[str]:
    """Give the objects that implement an interface; for an object that object alone."""
    return frozenset(_table()["interfaces"].get(interface, (interface,)))


def is_a(type_name: str, condition: str) -> bool:
    """Say whether a fragment `... on condition` applies to an object of type `type_name`."""
    return type_name == condition or type_name in possible_types(condition)


def sdl() -> str:
    """Give the API as SDL text."""
    return (_HERE / "api.graphql").read_text(encoding="utf-8")


_SPACE = re.compile(r"[\s,]+")
_AROUND_PUNCTUATION = re.compile(r" ?([{}():!$\[\]=@|&]|\.\.\.) ?")
_ASKS = re.compile(r"\b__(?:schema|type)\b")


def fingerprint(query_text: str) -> str:
    """Identify a query whatever its white space; for texts without comments and string literals, where white space counts."""
    text = _AROUND_PUNCTUATION.sub(r"\1", _SPACE.sub(" ", query_text.strip()))
    return hashlib.sha256(text.encode()).hexdigest()


def answer_name(fingerprint_: str) -> str:
    """Name the file that holds the prepared answer to the query with this fingerprint."""
    return f"introspection-{fingerprint_[:16]}.json.gz"


def answer_introspection(query_text: str, variables: dict[str, Any] | None = None, operation_name: str | None = None) -> bytes | None:
    """Answer an introspection query with the bytes of the JSON response; None when the query asks for anything else.

    The queries that SDKs send are prepared. Any other is executed by graphql-core, which is imported for it: about 0.2 s, once.
    """
    if not _ASKS.search(query_text):
        return None
    if not variables and not operation_name and '"' not in query_text and "#" not in query_text:
        prepared = _HERE / answer_name(fingerprint(query_text))
        if prepared.exists():
            return gzip.decompress(prepared.read_bytes())
    from pocket.schema.execute import execute

    return execute(query_text, variables, operation_name)
