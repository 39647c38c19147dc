"""The query engine: what one request may ask, objects by recipe, errors with their place."""

import asyncio
from typing import Any

import pytest
from inprocess import Api
from sessions import Failed

from pocket.api.registry import REGISTRY
from pocket.query import Executor, Resolver


async def test_an_object_asked_twice_is_the_same(api: Api) -> None:
    ids = [await api("directory", ("withNewFile", {"path": "a", "contents": c}), "id") for c in ("1", "1", "2")]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("Directory:")


async def test_siblings_and_aliases_are_answered_in_one_request(api: Api) -> None:
    text = '{ directory { a: withNewFile(path: "a", contents: "") { entries } b: withNewFile(path: "b", contents: "") { id } } version }'
    answer = await api.executor.execute(text)
    assert answer["data"]["directory"]["a"] == {"entries": ["a"]}
    assert list(answer["data"]["directory"]) == ["a", "b"]
    assert answer["data"]["version"]


async def test_fragments_and_variables(api: Api) -> None:
    text = (
        'query Q($name: String!, $text: String = "dflt") { directory { ...made } }'
        " fragment made on Directory { withNewFile(path: $name, contents: $text) { ... on Directory { ...read } } }"
        " fragment read on Directory { file(path: $name) { contents __typename } }"
    )
    answer = await api.executor.execute(text, {"name": "f"})
    assert answer["data"]["directory"]["withNewFile"]["file"] == {"contents": "dflt", "__typename": "File"}


async def test_an_object_is_loaded_by_its_id_and_only_with_its_type(api: Api) -> None:
    ident = await api("directory", ("withNewFile", {"path": "f", "contents": "x"}), "id")
    assert await api(("loadDirectoryFromID", {"id": ident}), "entries") == ["f"]
    assert await api(("node", {"id": ident}), "... on Directory", "entries") == ["f"]
    with pytest.raises(Failed, match="Directory"):
        await api(("loadContainerFromID", {"id": ident}), "stdout")
    with pytest.raises(Failed, match="no object in this session"):
        await api(("loadDirectoryFromID", {"id": "Directory:nope"}), "entries")


async def test_lists_of_objects_are_selected_item_by_item(api: Api) -> None:
    chain = (
        "container",
        ("withEnvVariable", {"name": "A", "value": "1"}),
        ("withEnvVariable", {"name": "B", "value": "2"}),
        "envVariables",
    )
    assert await api(*chain, "name") == ["A", "B"]
    first, second = await api(*chain, "id")
    assert await api(("node", {"id": second}), "... on EnvVariable", "value") == "2"
    assert first != second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ nope }", "nope"),
        ('{ directory { withNewFile(path: 1, contents: "") { id } } }', "String"),
        ('{ directory { withNewFile(path: "a") { id } } }', "contents"),
        ('{ directory { withNewFile(path: "a", contents: "", more: 1) { id } } }', "more"),
        ("{ directory { ...absent } }", "absent"),
        ("mutation { version }", "query"),
        ("{ version", ""),
        ("", ""),
        ("{ version } { version }", ""),
    ],
)
async def test_what_is_wrong_with_a_request_is_said(api: Api, text: str, message: str) -> None:
    answer = await api.executor.execute(text)
    assert "data" not in answer
    (error,) = answer["errors"]
    assert message in error["message"]
    assert isinstance(error["locations"], list)
    assert isinstance(error["path"], list)


async def test_an_error_has_its_place(api: Api) -> None:
    answer = await api.executor.execute('{\n  d: directory {\n    entries(path: "no")\n  }\n}')
    (error,) = answer["errors"]
    assert error["locations"] == [{"line": 3, "column": 5}]
    assert error["path"] == ["d", "entries"]


async def test_every_sibling_tells_its_error(api: Api) -> None:
    answer = await api.executor.execute('{ directory { a: entries(path: "x") b: entries(path: "y") c: entries } }')
    assert sorted(e["path"][-1] for e in answer["errors"]) == ["a", "b"]
    assert "data" not in answer


async def test_what_pocket_lacks_is_refused_with_advice(api: Api) -> None:
    unsupported = {(t, f) for t, fields in api.executor.fields.items() for f in fields if f != "id"} - REGISTRY.keys()
    name = next(
        f for t, f in sorted(unsupported) if t == "Query" and not any(a.required for a in api.executor.fields["Query"][f].args.values())
    )
    answer = await api.executor.execute(f"{{ {name} {{ id }} }}")
    assert "use a Dagger engine" in answer["errors"][0]["message"]


async def test_a_bug_is_told_and_left_on_stderr(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_e: object, _q: object) -> str:
        raise ZeroDivisionError("inside")

    executor = Executor(api.engine, {("Query", "version"): Resolver(broken, {}, whole=False, pure=True)})
    answer = await executor.execute("{ version }")
    assert answer["errors"][0]["path"] == ["version"]
    assert "ZeroDivisionError" in capsys.readouterr().err


async def test_requests_at_once_resolve_a_field_once(api: Api) -> None:
    runs: list[int] = []
    started, go = asyncio.Event(), asyncio.Event()

    async def slow(_e: object, _q: object) -> Any:
        runs.append(1)
        started.set()
        await go.wait()
        return "host"

    executor = Executor(api.engine, {**REGISTRY, ("Query", "host"): Resolver(slow, {}, whole=False, pure=True)})
    both = [asyncio.ensure_future(executor.execute("{ host { id } }")) for _ in range(2)]
    await started.wait()
    go.set()
    answers = await asyncio.gather(*both)
    assert answers[0] == answers[1]
    assert runs == [1]


async def test_what_may_change_is_asked_again(api: Api) -> None:
    place = api.engine.workdir / "f"
    place.write_text("one")
    chain = (("file", {"path": str(place)}), "contents")
    assert await api("host", *chain) == "one"
    place.write_text("two")
    assert await api("host", *chain) == "one"
    assert await api("host", ("file", {"path": str(place), "noCache": True}), "contents") == "two"
