"""Container settings: what is set is what is told, removed and listed; nothing runs for it."""

from typing import Any

import pytest
from inprocess import Api
from sessions import Enum, Failed, Step

CASES: list[tuple[list[Step], Any]] = [
    ([("withEnvVariable", {"name": "A", "value": "1"}), ("envVariable", {"name": "A"})], "1"),
    ([("envVariable", {"name": "A"})], None),
    ([("withEnvVariable", {"name": "A", "value": "1"}), ("withoutEnvVariable", {"name": "A"}), ("envVariable", {"name": "A"})], None),
    (
        [
            ("withEnvVariable", {"name": "A", "value": "1"}),
            ("withEnvVariable", {"name": "B", "value": "$A/$A", "expand": True}),
            ("envVariable", {"name": "B"}),
        ],
        "1/1",
    ),
    ([("withUser", {"name": "me"}), "user"], "me"),
    ([("withUser", {"name": "me"}), "withoutUser", "user"], ""),
    ([("withWorkdir", {"path": "a"}), ("withWorkdir", {"path": "../b"}), "workdir"], "/b"),
    ([("withWorkdir", {"path": "/a"}), "withoutWorkdir", "workdir"], ""),
    ([("withEntrypoint", {"args": ["a", "b"]}), "entrypoint"], ["a", "b"]),
    ([("withEntrypoint", {"args": ["a"]}), "withoutEntrypoint", "entrypoint"], []),
    ([("withDefaultArgs", {"args": ["d"]}), ("withEntrypoint", {"args": ["e"]}), "defaultArgs"], []),
    ([("withDefaultArgs", {"args": ["d"]}), ("withEntrypoint", {"args": ["e"], "keepDefaultArgs": True}), "defaultArgs"], ["d"]),
    ([("withDefaultArgs", {"args": ["d"]}), ("withoutEntrypoint", {"keepDefaultArgs": True}), "defaultArgs"], ["d"]),
    ([("withDefaultArgs", {"args": ["d"]}), "withoutDefaultArgs", "defaultArgs"], []),
    ([("withLabel", {"name": "a", "value": "1"}), ("withLabel", {"name": "a", "value": "2"}), ("label", {"name": "a"})], "2"),
    ([("withLabel", {"name": "a", "value": "1"}), "labels", "name"], ["a"]),
    ([("withLabel", {"name": "a", "value": "1"}), ("withoutLabel", {"name": "a"}), "labels", "value"], []),
    ([("withAnnotation", {"name": "a", "value": "1"}), ("withoutAnnotation", {"name": "a"}), "platform"], "linux/amd64"),
    ([("withExposedPort", {"port": 1, "description": "d"}), "exposedPorts", "description"], ["d"]),
    ([("withExposedPort", {"port": 1, "experimentalSkipHealthcheck": True}), "exposedPorts", "experimentalSkipHealthcheck"], [True]),
    ([("withExposedPort", {"port": 1, "protocol": Enum("UDP")}), ("withoutExposedPort", {"port": 1}), "exposedPorts", "protocol"], ["UDP"]),
    ([("withDockerHealthcheck", {"args": ["x"], "shell": True}), "dockerHealthcheck", "shell"], True),
    ([("withMountedTemp", {"path": "/b"}), ("withMountedTemp", {"path": "a"}), "mounts"], ["/b", "/a"]),
    ([("withMountedTemp", {"path": "/a"}), ("withoutMount", {"path": "/a"}), "mounts"], []),
]


@pytest.mark.parametrize(("steps", "value"), CASES)
async def test_settings(api: Api, steps: list[Step], value: Any) -> None:
    assert await api("container", *steps) == value


async def test_a_health_check_removed_is_null(api: Api) -> None:
    answer = await api.executor.execute(
        '{ container { withDockerHealthcheck(args: ["x"]) { withoutDockerHealthcheck { dockerHealthcheck { args } } } } }'
    )
    assert answer["data"]["container"]["withDockerHealthcheck"]["withoutDockerHealthcheck"] == {"dockerHealthcheck": None}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["imageRef"], "Image reference can only be retrieved"),
        ([("withError", {"err": "on purpose"}), "user"], "on purpose"),
        ([("withVolatileVariable", {"name": "V", "value": "1"}), ("withWorkdir", {"path": "$V", "expand": True}), "workdir"], "volatile"),
        ([("withExec", {"args": ["a"], "experimentalPrivilegedNesting": True}), "stdout"], "not supported"),
        ([("withExec", {"args": ["a"], "stdin": "x", "redirectStdin": "/y"}), "stdout"], "cannot set both stdin and redirectStdin"),
        ([("withDockerHealthcheck", {"args": ["a"], "interval": "soon"}), "user"], 'time: invalid duration "soon"'),
        ([("withNewFile", {"path": "f", "contents": ""}), ("export", {"path": "/proc/no/such"})], "cannot export to /proc/no/such: "),
        ([("withExec", {"args": []}), "stdout"], "no command has been set"),
        (["stdout"], "no command has been set"),
        (["asService", "start"], "no service command"),
        ([("asService", {"experimentalPrivilegedNesting": True}), "hostname"], "not supported"),
    ],
)
async def test_refusals(api: Api, steps: list[Step], message: str) -> None:
    with pytest.raises(Failed, match=message):
        await api("container", *steps)


async def test_secret_variables_replace_each_other_and_go(api: Api) -> None:
    one, two = [await api(("setSecret", {"name": n, "plaintext": n}), "id") for n in ("one", "two")]
    first = ("withSecretVariable", {"name": "S", "secret": one})
    ident = await api("container", first, ("withSecretVariable", {"name": "S", "secret": two}), "id")
    container = api.executor.load(ident).state
    assert [(n, s.name) for n, s in container.secret_env] == [("S", "two")]
    ident = await api("container", first, ("withoutSecretVariable", {"name": "S"}), "id")
    assert api.executor.load(ident).state.secret_env == ()
    ident = await api("container", first, ("withEnvVariable", {"name": "S", "value": "plain"}), "id")
    assert len(api.executor.load(ident).state.secret_env) == 1


async def test_secrets_tell_their_name_uri_and_value(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "value")
    assert await api(("setSecret", {"name": "n", "plaintext": "p"}), "plaintext") == "p"
    assert await api(("setSecret", {"name": "n", "plaintext": "p"}), "name") == "n"
    assert await api(("secret", {"uri": "env://THE_SECRET"}), "uri") == "env://THE_SECRET"
    assert await api(("secret", {"uri": "env://THE_SECRET"}), "plaintext") == "value"
    monkeypatch.setenv("THE_SECRET", "other")
    assert await api(("secret", {"uri": "env://THE_SECRET"}), "plaintext") == "other"


async def test_devices_are_asked_for(api: Api) -> None:
    for step, gpus in ((("experimentalWithGPU", {"devices": ["0", "1"]}), ("0", "1")), ("experimentalWithAllGPUs", ("all",))):
        assert api.executor.load(await api("container", step, "id")).state.gpus == gpus
