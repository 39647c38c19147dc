"""JSON values, errors as values and env files: plain data through the API."""

import re
from typing import Any

import pytest
from inprocess import Api
from sessions import Failed, Step

TEXT: Step = ("withContents", {"contents": '{"a": {"b": [1, "two", true]}, "s": "é", "n": 5}'})


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        (["contents"], "null"),
        ([("newString", {"value": "x"}), "asString"], "x"),
        ([("newInteger", {"value": 5}), "asInteger"], 5),
        ([("newBoolean", {"value": True}), "asBoolean"], True),
        ([TEXT, "fields"], ["a", "n", "s"]),
        ([TEXT, ("field", {"path": ["a", "b"]}), "asArray", "contents"], ["1", '"two"', "true"]),
        ([TEXT, ("field", {"path": ["s"]}), "asString"], "é"),
        ([TEXT, ("field", {"path": ["a"]}), ("contents", {"pretty": True, "indent": " "})], '{\n "b": [\n  1,\n  "two",\n  true\n ]\n}'),
        ([("withContents", {"contents": ' { "b" : 1.0 } '}), "contents"], ' { "b" : 1.0 } '),
        ([("newString", {"value": "<é>"}), "contents"], '"\\u003cé\\u003e"'),
        (["asString"], ""),
    ],
)
async def test_json_values(api: Api, steps: list[Step], value: Any) -> None:
    assert await api("json", *steps) == value


async def test_json_values_are_put_into_each_other(api: Api) -> None:
    five = await api("json", ("newInteger", {"value": 5}), "id")
    assert await api("json", ("withField", {"path": ["a", "b"], "value": five}), "contents") == '{"a":{"b":5}}'
    assert await api("json", TEXT, ("withField", {"path": ["a"], "value": five}), ("field", {"path": ["a"]}), "asInteger") == 5
    assert await api("json", ("withField", {"path": [], "value": five}), "contents") == "{}"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("withContents", {"contents": "{"}), "contents"], "invalid JSON"),
        ([TEXT, "asString"], "value is not a string"),
        ([TEXT, ("field", {"path": ["n"]}), "asBoolean"], "value is not a boolean"),
        ([("newBoolean", {"value": True}), "asInteger"], "value is not an integer"),
        ([TEXT, "asArray", "contents"], "value is not an array"),
        ([("newInteger", {"value": 1}), "fields"], "value is not an object"),
        ([TEXT, ("field", {"path": ["a", "x"]}), "contents"], "no such field: 'x'"),
    ],
)
async def test_json_values_of_another_kind(api: Api, steps: list[Step], message: str) -> None:
    with pytest.raises(Failed, match=message):
        await api("json", *steps)


async def test_a_file_as_json(api: Api) -> None:
    assert await api(("file", {"name": "f", "contents": '{"a": 1}'}), "asJSON", "fields") == ["a"]


async def test_errors_are_values(api: Api) -> None:
    error: Step = ("error", {"message": "m"})
    assert await api(error, "message") == "m"
    valued: tuple[Step, ...] = (error, ("withValue", {"name": "n", "value": "[1]"}), ("withValue", {"name": "o", "value": '"t"'}))
    assert await api(*valued, "values", "name") == ["n", "o"]
    assert await api(*valued, "values", "value") == ["[1]", '"t"']


FILE = "# comment\n\nA=1\nexport B='two words'\nC=\"$A and ${B}\" # more\nA=3\nD=$A # last\nHOST=$THE_HOST\n"


def env(*steps: Step) -> tuple[Step, ...]:
    """Give the steps that read the file."""
    return (("file", {"name": ".env", "contents": FILE}), "asEnvFile", *steps)


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ([("get", {"name": "A"})], "3"),
        ([("get", {"name": "C"})], "3 and two words"),
        ([("get", {"name": "D"})], "3"),
        ([("get", {"name": "B", "raw": True})], "'two words'"),
        ([("get", {"name": "NONE"})], ""),
        ([("get", {"name": "HOST"})], "here"),
        ([("exists", {"name": "A"})], True),
        ([("exists", {"name": "NONE"})], False),
        (["variables", "name"], ["A", "B", "C", "D", "HOST"]),
        ([("withoutVariable", {"name": "A"}), ("exists", {"name": "A"})], False),
        ([("withVariable", {"name": "E", "value": "$D!"}), ("get", {"name": "E"})], "3!"),
    ],
)
async def test_env_files(api: Api, steps: list[Step], value: Any) -> None:
    api.engine.environ = {"THE_HOST": "here"}
    assert await api(*env(*steps)) == value


async def test_env_files_are_files_and_variables_of_containers(api: Api) -> None:
    made: tuple[Step, ...] = ("envFile", ("withVariable", {"name": "A", "value": "1"}), ("withVariable", {"name": "B", "value": "$A$A"}))
    assert await api(*made, "asFile", "contents") == "A=1\nB=$A$A\n"
    source = await api(*made, "id")
    assert await api("container", ("withEnvFileVariables", {"source": source}), ("envVariable", {"name": "B"})) == "11"


async def test_parts_of_env_files_by_prefix(api: Api) -> None:
    made: tuple[Step, ...] = (
        "envFile",
        ("withVariable", {"name": "MY_APP_PORT", "value": "$BASE"}),
        ("withVariable", {"name": "myapp_host", "value": "h"}),
        ("withVariable", {"name": "BASE", "value": "80"}),
        ("namespace", {"prefix": "my_app"}),
    )
    assert await api(*made, "variables", "name") == ["PORT", "host"]
    assert await api(*made, ("get", {"name": "PORT"})) == "80"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\n2B=x\n", 'parse error: "2B=x": not a bare assignment'),
        ("A = 1\n", 'parse error: "A = 1": not a bare assignment'),
        ("A=$NOWHERE\n", "NOWHERE: unbound variable"),
        ("A=$B\nB=$A\n", "unbound variable"),
    ],
)
async def test_what_is_no_env_file_is_refused(api: Api, text: str, message: str) -> None:
    with pytest.raises(Failed, match=re.escape(message)):
        await api(("file", {"name": "f", "contents": text}), "asEnvFile", "variables", "name")
