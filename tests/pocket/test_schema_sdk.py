"""The schema holds everything that the installed SDK can ask for, read from the SDK a second way: by running its query builder."""

import ast
import asyncio
import enum
import importlib.util
import inspect
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import dagger
import pytest
from dagger.client import base, gen
from gql.dsl import DSLSchema
from gql.utilities import get_introspection_query_ast
from graphql import GraphQLEnumType, GraphQLSchema, build_client_schema, print_ast

from pocket import schema

GENERATED = [c for name in gen.__all__ if inspect.isclass(c := getattr(gen, name))]


class Use(NamedTuple):
    type: str
    field: str
    args: tuple[str, ...]


@cache
def sdk_uses() -> list[Use]:
    """List each field that a method of the SDK's client selects, with the arguments that the method may send."""
    spec = importlib.util.find_spec("dagger")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "client" / "gen.py").read_text())
    return [use for cls in tree.body if isinstance(cls, ast.ClassDef) for method in cls.body for use in uses(cls, method)]


def uses(cls: ast.ClassDef, method: ast.stmt) -> Iterator[Use]:
    literals: dict[str, list[str]] = {"Arg": [], "_select": [], "execute_sync": []}
    for call in ast.walk(method):
        if isinstance(call, ast.Call):
            name = ast.unparse(call.func).rpartition(".")[2]
            strings = [a.value for a in call.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if name in literals:
                literals[name].append(strings[0])
    type_name = cls.name.removeprefix("_").removesuffix("Client") if cls.name.startswith("_") else cls.name
    for field in literals["_select"] + literals["execute_sync"]:
        yield Use(type_name, field, tuple(literals["Arg"]))


@cache
def client_schema() -> GraphQLSchema:
    answer = schema.answer_introspection(print_ast(get_introspection_query_ast()))
    assert answer is not None
    return build_client_schema(json.loads(answer)["data"])


def test_the_walk_sees_the_whole_client() -> None:
    assert len(sdk_uses()) > 700
    assert {"Container", "Query", "Node", "Exportable", "Syncer"} <= {use.type for use in sdk_uses()}


def test_every_field_and_argument_can_be_selected() -> None:
    dsl = DSLSchema(client_schema())
    for use in sdk_uses():
        field = getattr(getattr(dsl, use.type), use.field)
        assert set(use.args) <= set(field.field.args), use


def test_the_table_holds_the_same_fields_and_arguments() -> None:
    table = schema.fields()
    for use in sdk_uses():
        assert set(use.args) == set(table[use.type][use.field].args), use


@pytest.mark.parametrize("kind", [c for c in GENERATED if issubclass(c, enum.Enum)])
def test_every_enum_member_is_there(kind: type[enum.Enum]) -> None:
    members = schema.enums()[kind.__name__]
    assert set(kind.__members__) == set(members)
    assert all(kind[name] is kind[stands_for] for name, stands_for in members.items())
    told = client_schema().type_map[kind.__name__]
    assert isinstance(told, GraphQLEnumType)
    assert told.values.keys() == members.keys()


def test_every_scalar_and_input_is_there() -> None:
    assert {c.__name__ for c in GENERATED if issubclass(c, base.Scalar)} <= schema.scalars()
    inputs = {c.__name__: set(inspect.signature(c).parameters) for c in GENERATED if issubclass(c, base.Input)}
    assert inputs == {name: set(fields) for name, fields in schema.inputs().items()}


def test_defaults_are_those_of_the_sdk() -> None:
    """The SDK leaves out an argument that equals its own default, so the engine's must be the same."""

    class Recorder:
        def __init__(self) -> None:
            self.seen: list[tuple[str, str, Any, Any]] = []

        def select(self, type_name: str, field: str, args: Any) -> "Recorder":
            self.seen += [(type_name, field, arg.name, arg.default) for arg in args if len(arg) > 2]
            return self

        async def execute(self, *_: Any) -> None: ...
        async def execute_object_list(self, *_: Any) -> None: ...
        async def execute_sync(self, obj: Any, field: str, args: Any = ()) -> None:
            self.select(obj._graphql_name(), field, args)

    recorder: Any = Recorder()
    for cls, name in ((dagger.Container, "Container"), (dagger.Directory, "Directory"), (dagger.Host, "Host")):
        for method in vars(cls).values():
            if inspect.isfunction(method) and not method.__name__.startswith("_") and method.__name__ != "with_":
                result = call_with_nothing(method, cls(recorder))
                if inspect.iscoroutine(result):
                    asyncio.run(result)
        assert any(seen[0] == name for seen in recorder.seen)
    for type_name, field, arg, default in recorder.seen:
        if default is not inspect.Parameter.empty and type(default).__name__ != "_MISSING_TYPE":
            expected = default.name if isinstance(default, enum.Enum) else default
            assert schema.fields()[type_name][field].args[arg].default == expected, (type_name, field, arg)


def call_with_nothing(method: Any, target: Any) -> Any:
    """Call a client method with the plainest values that its required parameters take."""
    plain = inspect.unwrap(method)
    values: dict[str, Any] = {"str": "", "int": 0, "bool": False}
    given = [
        values.get(getattr(p.annotation, "__name__", ""), [])
        for p in list(inspect.signature(plain).parameters.values())[1:]
        if p.default is p.empty
    ]
    return plain(target, *given)
