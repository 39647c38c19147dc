"""Reading GraphQL requests: queries with fragments, variables and directives, as plain tuples.

graphql-core would do, and is the oracle in the tests; but importing it takes longer than a whole session may take to answer
its first request, and its parser longer than the cached steps that a request names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pocket.errors import PocketError

_TOKEN = re.compile(
    r"""[\s,\ufeff]*(?:\#[^\n\r]*[\s,\ufeff]*)*(?:
    (?P<name>[_A-Za-z][_0-9A-Za-z]*)
  | (?P<block>\"{3}(?:\\\"{3}|[^\"]|\"(?!\"\"))*\"{3})
  | (?P<string>\"(?:[^\"\\\n\r]|\\.)*\")
  | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![_A-Za-z0-9.]))
  | (?P<punctuation>\.\.\.|[{}()\[\]:$!=@|&])
  | (?P<end>$)
  )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]+)\}|u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_SIMPLE = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
DEPTH = 2000  # nested selections and values; a chain of a program is one level per call


class GraphQLSyntaxError(PocketError):
    """The text of a request is not GraphQL."""


class Variable(NamedTuple):
    """A `$name` in the place of a value."""

    name: str


class Selected(NamedTuple):
    """A field: the key of its answer, its name, its arguments (values may hold `Variable`s), what is selected of it, its place."""

    key: str
    name: str
    arguments: dict[str, Any]
    selections: list[Any]
    line: int
    column: int
    directives: list[tuple[str, dict[str, Any]]]


class Fragment(NamedTuple):
    """A fragment, inline or by `spread` of its name; `condition` is a type name or ""."""

    condition: str
    spread: str
    selections: list[Any]
    directives: list[tuple[str, dict[str, Any]]]


@dataclass(slots=True)
class Operation:
    """A query: its name, the defaults of its variables, its selections."""

    kind: str
    name: str
    defaults: dict[str, Any]
    selections: list[Any]


@dataclass(slots=True)
class Document:
    """What one request holds."""

    operations: list[Operation] = field(default_factory=list)
    fragments: dict[str, Fragment] = field(default_factory=dict)


def parse(text: str) -> Document:
    """Read a request.

    Raises:
        GraphQLSyntaxError: it is not GraphQL, or defines types; the message has line and column.
    """
    return _Parser(text).document()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.start, self.kind, self.token = text, 0, 0, "", ""
        self.depth = 0
        self._next()

    # --- tokens
    def _next(self) -> None:
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            raise self._error("unexpected character")
        self.kind = match.lastgroup or ""
        self.token, self.start, self.at = match[self.kind], match.start(self.kind), match.end()

    def _error(self, what: str) -> GraphQLSyntaxError:
        line, column = self._place(max(self.start, 0))
        return GraphQLSyntaxError(f"Syntax Error: {what} at line {line}, column {column}")

    def _place(self, at: int) -> tuple[int, int]:
        before = self.text.rfind("\n", 0, at)
        return self.text.count("\n", 0, at) + 1, at - before

    def _is(self, token: str) -> bool:
        return self.token == token and self.kind == "punctuation"

    def _skip(self, token: str) -> bool:
        if self._is(token):
            self._next()
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._skip(token):
            raise self._error(f"expected {token!r}, found {self.token[:20]!r}")

    def _name(self) -> str:
        if self.kind != "name":
            raise self._error(f"expected a name, found {self.token[:20]!r}")
        name = self.token
        self._next()
        return name

    # --- documents
    def document(self) -> Document:
        """Read everything."""
        document = Document()
        if self.kind == "end":
            raise self._error("unexpected end")
        while self.kind != "end":
            if self._is("{"):
                document.operations.append(Operation("query", "", {}, self._selections()))
                continue
            word = self._name()
            if word == "fragment":
                name = self._name()
                if name == "on" or self._name() != "on":
                    raise self._error("expected 'on'")
                condition, directives = self._name(), self._directives()
                document.fragments[name] = Fragment(condition, "", self._selections(), directives)
            elif word in ("query", "mutation", "subscription"):
                document.operations.append(self._operation(word))
            else:
                raise self._error(f"unexpected {word!r}")
        return document

    def _operation(self, kind: str) -> Operation:
        name = self._name() if self.kind == "name" else ""
        defaults: dict[str, Any] = {}
        if self._skip("("):
            while not self._skip(")"):
                self._expect("$")
                variable = self._name()
                self._expect(":")
                self._type()
                if self._skip("="):
                    defaults[variable] = self._value()
                self._directives()
        self._directives()
        return Operation(kind, name, defaults, self._selections())

    def _type(self) -> None:
        if self._skip("["):
            self._type()
            self._expect("]")
        else:
            self._name()
        self._skip("!")

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > DEPTH:
            raise self._error(f"nested deeper than {DEPTH} levels")

    def _selections(self) -> list[Any]:
        """Read selections without recursion: a program's chain nests as deep as it is long."""
        self._expect("{")
        root: list[Any] = []
        stack = [root]
        while stack:
            if self._skip("}"):
                if not stack.pop():
                    raise self._error("expected a selection")
                self.depth -= 1 if stack else 0
                continue
            inner = self._fragment(stack[-1]) if self._is("...") else self._selected(stack[-1])
            if self._skip("{"):
                self._deeper()
                stack.append(inner)
        return root

    def _selected(self, into: list[Any]) -> list[Any]:
        line, column = self._place(self.start)
        key = name = self._name()
        if self._skip(":"):
            name = self._name()
        inner: list[Any] = []
        arguments = self._arguments() if self._is("(") else {}
        directives = self._directives() if self._is("@") else []
        into.append(Selected(key, name, arguments, inner, line, column, directives))
        return inner

    def _fragment(self, into: list[Any]) -> list[Any]:
        self._next()
        inner: list[Any] = []
        condition = spread = ""
        if self.kind == "name":
            word = self._name()
            if word == "on":
                condition = self._name()
            else:
                spread = word
        into.append(Fragment(condition, spread, inner, self._directives()))
        return inner

    def _directives(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        while self._skip("@"):
            name = self._name()
            found.append((name, self._arguments() if self._is("(") else {}))
        return found

    def _arguments(self) -> dict[str, Any]:
        self._expect("(")
        found: dict[str, Any] = {}
        while not self._skip(")"):
            name = self._name()
            self._expect(":")
            found[name] = self._value()
        return found

    # --- values
    def _value(self) -> Any:
        kind, token = self.kind, self.token
        if kind == "string":
            self._next()
            return token[1:-1] if "\\" not in token else self._unescaped(token[1:-1])
        if kind == "name":
            self._next()
            return {"true": True, "false": False, "null": None}.get(token, token)
        if kind == "number":
            self._next()
            return float(token) if any(c in token for c in ".eE") else int(token)
        if kind == "block":
            self._next()
            return _block(token[3:-3].replace('\\"""', '"""'))
        if self._skip("$"):
            return Variable(self._name())
        if self._is("[") or self._is("{"):
            self._deeper()
            found = self._list() if self._skip("[") else self._object()
            self.depth -= 1
            return found
        raise self._error(f"unexpected {token[:20]!r}")

    def _list(self) -> list[Any]:
        found = []
        while not self._skip("]"):
            found.append(self._value())
        return found

    def _object(self) -> dict[str, Any]:
        self._expect("{")
        found: dict[str, Any] = {}
        while not self._skip("}"):
            name = self._name()
            self._expect(":")
            found[name] = self._value()
        return found

    def _unescaped(self, text: str) -> str:
        def one(match: re.Match[str]) -> str:
            if code := match[1] or match[2]:
                if int(code, 16) > 0x10FFFF:
                    raise self._error(f"invalid escape \\u{{{code}}}")
                return chr(int(code, 16))
            if match[3] not in _SIMPLE:
                raise self._error(f"invalid escape \\{match[3]}")
            return _SIMPLE[match[3]]

        plain = _ESCAPE.sub(one, text)
        # Characters beyond the first plane may come as two escapes, as in JSON.
        return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\u" in text else plain


def _block(text: str) -> str:
    """Remove the common indentation and the blank ends of a block string."""
    lines = re.split(r"\r\n|[\n\r]", text)
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines[1:] if line.strip(" \t")]
    common = min(indents, default=0)
    lines = [lines[0], *(line[common:] for line in lines[1:])]
    while lines and not lines[0].strip(" \t"):
        lines.pop(0)
    while lines and not lines[-1].strip(" \t"):
        lines.pop()
    return "\n".join(lines)
