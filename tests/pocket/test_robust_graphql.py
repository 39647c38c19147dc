"""Requests that nobody in their right mind would send: each is answered in JSON, and the session goes on."""

import json
from collections.abc import Iterator

import pytest
from busybox_image import make_base
from graphql_fuzz import OBJECTS, bodies, identify, named
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pocket_session import PocketSession, session

_SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PocketSession]:
    """Hold one session for all requests. It must end in order, and no request may have left a traceback: each would be a bug."""
    place = tmp_path_factory.mktemp("fuzz")
    with session(place / "cache", place / "log", image=make_base(place / "base.tar")) as running:
        yield running


@pytest.fixture(scope="module")
def ids(asked: PocketSession) -> dict[str, str]:
    """Give the IDs of some objects that arguments may name."""
    return {type_: identify(asked.ok(text)) for type_, text in OBJECTS.items()}


def answered(asked: PocketSession, body: bytes) -> None:
    """Send a body; the answer must be JSON in the shape of GraphQL, and never a word about the program's insides."""
    before = asked.log.stat().st_size
    status, text = asked.post(body)
    answer = json.loads(text)
    assert status in (200, 400)
    assert isinstance(answer, dict)
    assert ("data" in answer) or answer["errors"], answer
    for error in answer.get("errors", ()):
        assert isinstance(error["message"], str)
        assert error["message"]
    if asked.log.stat().st_size > before:
        said = asked.said()[before:]
        assert "Traceback" not in said, f"{body!r}\n{said}"


@given(body=bodies())
@settings(max_examples=2_000, **_SETTINGS)  # type: ignore[arg-type]  # mypy cannot see through the dictionary
def test_no_request_ends_a_session(asked: PocketSession, ids: dict[str, str], body: bytes) -> None:
    answered(asked, named(body, ids))


@pytest.mark.nightly
@given(body=bodies())
@settings(max_examples=100_000, derandomize=False, **_SETTINGS)  # type: ignore[arg-type]  # as above
def test_no_request_of_very_many_ends_a_session(asked: PocketSession, ids: dict[str, str], body: bytes) -> None:
    answered(asked, named(body, ids))


@pytest.mark.parametrize("body", [
    b"", b"[", b"[]", b'"query"', b"{}", b'{"query":5}', b'{"query":null}', b"\xff\xfe", b"[" * 100_000, b'{"query":' + b'{"a":' * 50_000,
])  # fmt: skip
def test_what_is_no_request_is_refused(asked: PocketSession, body: bytes) -> None:
    status, text = asked.post(body)
    assert status == 400
    assert json.loads(text)["errors"][0]["message"] == "the body must be JSON with a query"


@pytest.mark.parametrize(("text", "message"), [
    ("{" + "a{" * 100_000, "nested deeper than"),
    ("{a(b:" + "[" * 100_000, "nested deeper than"),
    ('{a(b:"' + "\\" * 100_001 + '")}', ""),
    ("{...F} fragment F on Query{...F}", "unknown or recursive fragment 'F'"),
    ("{...F} fragment F on Query{...G ...G} fragment G on Query{...H ...H} fragment H on Query{...I ...I}", "fragment 'I'"),
    ("mutation{version}", "exactly one query"),
    ("{version} {version}", "exactly one query"),
    ("{version(x:1)}", 'Unknown argument "x"'),
    ("{nope}", 'Cannot query field "nope" on type "Query".'),
    ("{container{from}}", 'argument "address" of type "String"'),
])  # fmt: skip
def test_what_is_no_query_is_told(asked: PocketSession, text: str, message: str) -> None:
    assert message in asked.error(text)["message"]


@pytest.mark.parametrize(("call", "message"), [
    ('withNewFile(path:5,contents:"")', "String cannot represent a non string value: 5"),
    ('withNewFile(path:["a"],contents:"")', "String cannot represent a non string value: ['a']"),
    ('withNewFile(path:"a",contents:"",permissions:"x")', "Int cannot represent non-integer value: x"),
    ('withNewFile(path:"a",contents:"",permissions:true)', "Int cannot represent non-integer value: True"),
    ('withNewFile(path:"a",contents:"",permissions:3000000000)', "Int cannot represent non 32-bit signed integer value: 3000000000"),
    ('filter(include:["a",null])', 'Expected value of type "String!", found null.'),
    ('filter(gitignore:"yes")', "Boolean cannot represent a non boolean value: yes"),
    ('exists(path:"a",expectedType:NOPE)', 'Value "NOPE" does not exist in "ExistsType" enum.'),
    ('withDirectory(path:"a",source:"nope")', "no object in this session has the ID 'nope'"),
    ('withDirectory(path:"a",source:"Query:root")', "expected a Directory, got a Query"),
    ('dockerBuild(buildArgs:["A=1"])', 'Expected value of type "BuildArg", found A=1.'),
    ('dockerBuild(buildArgs:[{name:"A"}])', 'Field "BuildArg.value" of required type "String!" was not provided.'),
    ('dockerBuild(buildArgs:[{name:"A",value:"",x:1}])', 'Field "x" is not defined by type "BuildArg".'),
])  # fmt: skip
def test_arguments_of_another_type_are_refused_where_they_are_given(asked: PocketSession, call: str, message: str) -> None:
    error = asked.error(f"{{directory{{{call}{'{id}' if not call.startswith('exists') else ''}}}}}")
    assert error["message"] == message
    assert error["locations"] == [{"line": 1, "column": 12}]


def test_no_id_in_a_list_is_told_an_optional_one_alone_is_none(asked: PocketSession) -> None:
    assert asked.error('{container{asTarball(platformVariants:[""]){id}}}')["message"] == "no object in this session has the ID ''"
    made = '{container{from(address:"base:1"){withMountedCache(path:"/c",cache:"%s",source:""){id}}}}'
    assert asked.ok(made % identify(asked.ok('{cacheVolume(key:"c"){id}}')))


def test_a_single_value_stands_for_a_list(asked: PocketSession) -> None:
    made = '{directory{withNewFile(path:"a",contents:""){withNewFile(path:"b",contents:""){filter(include:"a"){entries}}}}}'
    assert asked.ok(made, "directory", "withNewFile", "withNewFile", "filter", "entries") == ["a"]


@given(contents=st.text(max_size=20))
@settings(max_examples=100, **_SETTINGS)  # type: ignore[arg-type]  # as above
def test_any_text_that_has_an_encoding_survives(asked: PocketSession, contents: str) -> None:
    """As a literal and as a variable."""
    for text, variables in (
        (f'{{file(name:"f",contents:{json.dumps(contents)}){{contents}}}}', {}),
        ('query($c:String!){file(name:"f",contents:$c){contents}}', {"c": contents}),
    ):
        assert asked.ok(text, "file", "contents", **variables) == contents


def test_half_characters_are_replaced_and_bytes_of_names_are_kept(asked: PocketSession) -> None:
    assert asked.ok('query($c:String!){file(name:"f",contents:$c){contents}}', "file", "contents", c="a\ud83d") == "a\ufffd"
    named = 'query($p:String!){directory{withNewFile(path:$p,contents:""){entries}}}'
    assert asked.ok(named, "directory", "withNewFile", "entries", p="a\udcff") == ["a\udcff"]


def test_a_chain_may_be_longer_than_the_stack_is_deep(asked: PocketSession) -> None:
    links = "".join(f'withEnvVariable(name:"V{n}",value:"{n}"){{' for n in range(1500))
    text = "{container{" + links + 'envVariable(name:"V7")' + "}" * 1502
    status, answer = asked.post(json.dumps({"query": text}).encode())
    assert (status, answer.count(b"withEnvVariable")) == (200, 1500)
    assert b'"envVariable": "7"' in answer


def test_the_session_works_after_all_that(asked: PocketSession) -> None:
    assert asked.ok('{container{from(address:"base:1"){withExec(args:["echo","still here"]){stdout}}}}')["container"]["from"] == {
        "withExec": {"stdout": "still here\n"}
    }
