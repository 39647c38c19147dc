"""Random requests for pocket: valid chains with arguments of any kind, chains that are damaged, and bytes that are no request.

Nothing here may reach beyond the session and its cache. Fields that read or write the host, run the host's programs or use the
network are asked with arguments that lead nowhere, or not at all.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from pocket import schema
from pocket.api import REGISTRY

#: What may not be asked: it writes to the host, runs its programs, or waits for something that never comes.
LEFT_OUT = {
    ("Query", "secret"), ("Query", "host"), ("Query", "git"), ("Query", "http"), ("Query", "address"),
    ("Container", "export"), ("Directory", "export"), ("File", "export"), ("Changeset", "export"),
    ("Container", "up"), ("Container", "terminal"), ("Directory", "terminal"), ("Service", "up"), ("Service", "start"),
    ("Container", "asService"), ("Directory", "asGit"),
}  # fmt: skip
WORDS = (
    "",
    ".",
    "..",
    "/",
    "a",
    "a/b",
    "../a",
    "/a/../..",
    "a\0b",
    "*",
    "[",
    "!",
    "**",
    "$HOME",
    "${",
    "é",
    "\ud83d",
    "\udcff",
    "-1",
    "0:0",
    "x" * 300,
)
FIELDS = schema.fields()
#: Where interesting chains begin.
BEGINNINGS = ("container", "directory", "container", "directory", "file", "json", "envFile", "setSecret")
#: Objects that arguments may name: a query for the ID of one of each type.
OBJECTS = {
    "Directory": '{directory{x:withNewFile(path:"a/b",contents:"one\\ntwo"){id}}}',
    "File": '{directory{withNewFile(path:"f",contents:"text"){x:file(path:"f"){id}}}}',
    "Container": '{container{x:from(address:"base:1"){id}}}',
    "Secret": '{x:setSecret(name:"s",plaintext:"v"){id}}',
    "CacheVolume": '{x:cacheVolume(key:"v"){id}}',
    "EnvFile": "{x:envFile{id}}",
    "JSONValue": "{x:json{id}}",
}  # fmt: skip


def literal(value: Any) -> str:
    """Write a value as GraphQL does; enum members are given as `bytes`."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    return json.dumps(value)


_text = st.one_of(st.sampled_from(WORDS), st.text(max_size=12))
_odd = st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), _text)
_anything = st.recursive(_odd, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3))


def _fitting(spec: schema.ArgSpec) -> st.SearchStrategy[Any]:
    if spec.id_of is not None:
        one: st.SearchStrategy[Any] = st.sampled_from([f"<{spec.id_of}>", f"<{spec.id_of}>", f"<{spec.id_of}>", "", "Query:root"])
    elif spec.type in schema.enums():
        one = st.sampled_from(sorted(schema.enums()[spec.type])).map(str.encode)
    elif spec.type in schema.inputs():
        one = st.fixed_dictionaries({name: _fitting(inner) for name, inner in schema.inputs()[spec.type].items()})
    else:
        kinds = {"Int": st.integers(-3, 70000), "Boolean": st.booleans(), "Float": st.floats(-9, 9)}
        one = kinds.get(spec.type, _text)
    return st.lists(one, max_size=3) if spec.list else one


@st.composite
def _arguments(draw: st.DrawFn, type_: str, name: str) -> str:
    given: dict[str, Any] = {}
    for arg, spec in FIELDS[type_][name].args.items():
        if (type_, name, arg) == ("Container", "from", "address"):
            given[arg] = draw(st.sampled_from(["", "a b", "UPPER", "127.0.0.1:1/x@sha256:0", ":", "x" * 300, "a//b"]))
        elif spec.required or draw(st.integers(0, 3)) == 0:
            given[arg] = draw(_anything if draw(st.integers(0, 29)) == 0 else _fitting(spec))
    if draw(st.integers(0, 99)) == 0:
        given["unknown"] = 1
    return "(" + ",".join(f"{k}:{literal(v)}" for k, v in given.items()) + ")" if given else ""


@st.composite
def chains(draw: st.DrawFn, type_: str = "Query", depth: int = 0) -> str:
    """Give a selection of a type: mostly one field with what it gives, sometimes several, sometimes one that is not there."""
    parts = []
    supported = [n for t, n in REGISTRY if t == type_ and (t, n) not in LEFT_OUT and not (n.startswith("load") and n != "loadFileFromID")]
    names = st.sampled_from(sorted(supported)) if supported else st.just("id")
    if type_ == "Query":
        names = st.sampled_from(BEGINNINGS) | names
    for n in range(draw(st.sampled_from((1, 1, 1, 2)))):
        name = draw(
            names if draw(st.integers(0, 19)) else st.sampled_from([*sorted(set(FIELDS[type_]) - {n for _, n in LEFT_OUT}), "nope"])
        )
        spec = FIELDS[type_].get(name)
        arguments = draw(_arguments(type_, name)) if spec else ""
        inner = ""
        if spec and spec.type in FIELDS:
            inner = "{" + (draw(chains(spec.type, depth + 1)) if depth < 5 else "id") + "}"
        parts.append(f"x{n}:{name}{arguments}{inner}")
    return " ".join(parts)


_damage = st.tuples(
    st.integers(0, 400), st.sampled_from(["", "{", "}", "(", ")", '"', "\\", "$v", "...", "@skip", "#", "\0", "é", "null", "[" * 90])
)


def named(body: bytes, ids: dict[str, str]) -> bytes:
    """Put the IDs of a session's objects into a request."""
    for type_, ident in ids.items():
        body = body.replace(f"<{type_}>".encode(), ident.encode())
    return body


def identify(answer: Any) -> str:
    """Give the ID in the answer to one of `OBJECTS`."""
    while "id" not in answer:
        (answer,) = answer.values()
    return str(answer["id"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Give a request body."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=60))
    if kind == 1:
        return json.dumps(draw(_anything)).encode()
    text = "{" + draw(chains()) + "}"
    for at, what in draw(st.lists(_damage, min_size=1, max_size=3)) if kind < 4 else ():
        place = at % (len(text) + 1)
        text = text[:place] + what + text[place + at % 3 :]
    return json.dumps({"query": text, "variables": draw(st.none() | _anything)} if kind == 4 else {"query": text}).encode()
