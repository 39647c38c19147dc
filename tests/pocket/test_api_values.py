"""JSON values, errors as values and env files: plain data through the API."""

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
        ([TEXT, "contents"], '{"a":{"b":[1,"two",true]},"s":"é","n":5}'),
    ],
)
async def test_json_values(api: Api, steps: list[Step], value: Any) -> None:
    assert await api("json", *steps) == value


async def test_json_values_are_put_into_each_other(api: Api) -> None:
    five = await api("json", ("newInteger", {"value": 5}), "id")
    assert await api("json", ("withField", {"path": ["a", "b"], "value": five}), "contents") == '{"a":{"b":5}}'
    assert await api("json", TEXT, ("withField", {"path": ["a"], "value": five}), ("field", {"path": ["a"]}), "asInteger") == 5
    assert await api("json", ("withField", {"path": [], "value": five}), "asInteger") == 5


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("withContents", {"contents": "{"}), "contents"], "not JSON"),
        ([TEXT, "asString"], "the JSON value is no string"),
        ([TEXT, ("field", {"path": ["n"]}), "asBoolean"], "no boolean"),
        ([("newBoolean", {"value": True}), "asInteger"], "no integer"),
        ([TEXT, "asArray", "contents"], "no array"),
        ([("newInteger", {"value": 1}), "fields"], "no object"),
        ([TEXT, ("field", {"path": ["a", "x"]}), "contents"], r"no field a\.x"),
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
        ([("get", {"name": "C"})], "1 and two words"),
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
        ("withVariable", {"name": "myapp-host", "value": "h"}),
        ("withVariable", {"name": "BASE", "value": "80"}),
        ("namespace", {"prefix": "my_app"}),
    )
    assert await api(*made, "variables", "name") == ["PORT", "host"]
    assert await api(*made, ("get", {"name": "PORT"})) == "80"


async def test_what_is_no_env_file_is_refused_with_its_line(api: Api) -> None:
    with pytest.raises(Failed, match="env file line 2: not an assignment: 'nonsense'"):
        await api(("file", {"name": "f", "contents": "A=1\nnonsense\n"}), "asEnvFile", "variables", "name")
