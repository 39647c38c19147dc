"""Introspection: prepared answers equal what graphql-core computes, other shapes are executed, other queries are left alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gql.utilities import get_introspection_query_ast
from graphql import build_client_schema, build_schema, get_introspection_query, graphql_sync, print_ast, validate_schema

from pocket import schema

PREPARED = {"gql": print_ast(get_introspection_query_ast()), "graphql-js": get_introspection_query()}


def answer(query: str, variables: dict[str, Any] | None = None) -> Any:
    data = schema.answer_introspection(query, variables)
    assert data is not None
    return json.loads(data)


@pytest.mark.parametrize("query", PREPARED.values(), ids=PREPARED.keys())
def test_prepared_answers_are_computed_answers(query: str) -> None:
    result = graphql_sync(build_schema(schema.sdl()), query)
    assert answer(query) == {"data": result.data}


@pytest.mark.parametrize("query", PREPARED.values(), ids=PREPARED.keys())
def test_a_prepared_answer_needs_no_graphql_core(query: str) -> None:
    code = "import sys, pocket.schema as s; a = s.answer_introspection(sys.stdin.read()); assert a; print('graphql' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], input=query, check=True, capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "False"


def test_white_space_does_not_matter_to_a_prepared_answer() -> None:
    query = PREPARED["gql"]
    squeezed = " ".join(query.split())
    assert schema.fingerprint(squeezed) == schema.fingerprint(query)
    assert schema.fingerprint(squeezed.replace("{ ", "{").replace(" }", "}")) == schema.fingerprint(query)
    assert schema.fingerprint(query.replace("kind", "k")) != schema.fingerprint(query)


def test_a_client_can_build_a_valid_schema_from_it() -> None:
    built = build_client_schema(answer(PREPARED["gql"])["data"])
    assert validate_schema(built) == []


@pytest.mark.parametrize(
    "query",
    [
        get_introspection_query(descriptions=False),
        "{ __schema { types { name } } }",
        "# with a comment\n{ __schema { queryType { name } } }",
        "query { ...Root } fragment Root on Query { __schema { directives { name } } __typename }",
        "{ ... on Query { __schema { queryType { name } } } }",
    ],
)
def test_other_shapes_are_executed(query: str) -> None:
    assert answer(query) == {"data": graphql_sync(build_schema(schema.sdl()), query).data}


def test_variables_and_type_look_ups_are_executed() -> None:
    got = answer("query Q($n: String!) { __type(name: $n) { kind name possibleTypes { name } } }", {"n": "Syncer"})
    assert got["data"]["__type"]["kind"] == "INTERFACE"
    assert {"name": "Container"} in got["data"]["__type"]["possibleTypes"]


def test_an_error_in_an_introspection_query_is_answered_as_graphql_does() -> None:
    got = answer("{ __schema { nonsense } }")
    assert "nonsense" in got["errors"][0]["message"]
    assert got["errors"][0]["locations"] == [{"line": 1, "column": 14}]


@pytest.mark.parametrize(
    "query",
    [
        "{ version }",
        "{ __typename }",
        "{ version __schema { queryType { name } } }",
        '{ file(name: "f", contents: "{ __schema { types } }") { id } }',
        "{ __schema {",
        "query { ...Loop } fragment Loop on Query { ...Loop version __type }",
        "fragment F on Query { __schema { queryType { name } } }",
    ],
)
def test_anything_else_is_left_to_the_engine(query: str) -> None:
    assert schema.answer_introspection(query) is None
