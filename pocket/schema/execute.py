"""Introspection queries of any shape, executed by graphql-core over the SDL. Imported only when no prepared answer fits."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    graphql_sync,
    parse,
)

from pocket import schema

_INTROSPECTION_FIELDS = {"__schema", "__type", "__typename"}


@cache
def _built() -> GraphQLSchema:
    return build_schema(schema.sdl())


def execute(query_text: str, variables: dict[str, Any] | None, operation_name: str | None) -> bytes | None:
    """Execute an introspection query; None when its root selects any other field, or when it cannot be parsed."""
    try:
        document = parse(query_text)
    except GraphQLError:
        return None
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    chosen = [d for d in operations if operation_name is None or (d.name and d.name.value == operation_name)]
    roots = {name for operation in chosen for name in _root_fields(operation.selection_set, fragments, set())}
    if not roots or not roots <= _INTROSPECTION_FIELDS:
        return None
    result = graphql_sync(_built(), query_text, variable_values=variables, operation_name=operation_name)
    return json.dumps(result.formatted, separators=(",", ":")).encode()


def _root_fields(selection: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode], seen: set[str]) -> set[str]:
    """Name the fields that a selection set asks of the root, through fragments; `seen` guards against fragments in a circle."""
    names: set[str] = set()
    for node in selection.selections:
        if isinstance(node, FieldNode):
            names.add(node.name.value)
        elif isinstance(node, InlineFragmentNode):
            names |= _root_fields(node.selection_set, fragments, seen)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
            seen.add(node.name.value)
            if (fragment := fragments.get(node.name.value)) is not None:
                names |= _root_fields(fragment.selection_set, fragments, seen)
    return names
