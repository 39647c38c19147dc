"""YAML as plain data that remembers where each key and value stood, so that an error can name the place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at a place; line and column count from 1."""

    line: int
    column: int
    message: str


@dataclass(slots=True)
class Document:
    """The data of a YAML text, and where its parts stand."""

    data: Any = None
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Return (line, column) of the value at `path`, or of its key, or of the nearest part above that stands in the text."""
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        for length in range(len(path), -1, -1):
            for places in (first, second):
                if path[:length] in places:
                    return places[path[:length]]
        return (1, 1)


def parse(text: bytes) -> Document:
    """Return the document; what YAML itself refuses (syntax, repeated keys, cycles, more than one document) is in its problems."""
    document = Document()
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            document.data = _plain(loader, node, (), document, frozenset())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        document.problems.append(Problem(line, column, f"not valid YAML: {error.problem or error.context or error}"))
    except (yaml.YAMLError, ValueError) as error:
        document.problems.append(Problem(1, 1, f"not valid YAML: {error}"))
    return document


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _plain(loader: yaml.SafeLoader, node: yaml.Node, path: Path, document: Document, above: frozenset[int]) -> Any:
    document.values[path] = _place(node)
    if id(node) in above:
        document.problems.append(Problem(*_place(node), "this alias refers to what it is part of"))
        return None
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, document, above)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*path, index), document, above) for index, item in enumerate(node.value)]
    return loader.construct_object(node)


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode, path: Path, document: Document, above: frozenset[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(Problem(*_place(key_node), "a key must be plain text"))
            continue
        # The text as written: YAML 1.1 would turn a key `on` or `1` into something that is no name.
        key = str(key_node.value)
        if key in found:
            first, _ = document.keys[(*path, key)]
            document.problems.append(Problem(*_place(key_node), f'"{key}" stands here again (first in line {first})'))
            continue
        document.keys[(*path, key)] = _place(key_node)
        found[key] = _plain(loader, value_node, (*path, key), document, above)
    return found
