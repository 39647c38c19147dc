import base64
import json
from pathlib import Path

import pytest

from pocket.oci.credentials import Credentials, CredentialsError, Keychain


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / ".docker").mkdir()
    return {"HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}


def write(env: dict[str, str], content: object) -> None:
    (Path(env["HOME"]) / ".docker/config.json").write_text(json.dumps(content))


async def test_docker_s_file_knows_its_own_registry_by_a_url(env: dict[str, str]) -> None:
    write(
        env, {"auths": {"https://index.docker.io/v1/": auth("u", "p:with:colons"), "https://ghcr.io": {"username": "a", "password": "b"}}}
    )
    keys = Keychain(environ=env)
    assert await keys.find("docker.io", "library/x") == Credentials("u", "p:with:colons")
    assert await keys.find("ghcr.io", "o/n") == Credentials("a", "b")
    assert await keys.find("quay.io", "o/n") is None


async def test_the_longest_prefix_wins_and_given_ones_go_first(env: dict[str, str]) -> None:
    write(env, {"auths": {"quay.io": auth("all", "1"), "quay.io/team": auth("team", "2")}})
    keys = Keychain({"docker.io/me": Credentials("me"), "index.docker.io": Credentials("hub")}, environ=env)
    assert await keys.find("quay.io", "team/x") == Credentials("team", "2")
    assert await keys.find("quay.io", "teamwork/x") == Credentials("all", "1")
    assert await keys.find("docker.io", "me/x") == Credentials("me")
    assert await keys.find("docker.io", "library/x") == Credentials("hub")


async def test_podman_s_file_is_read_too(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers/auth.json").write_text(json.dumps({"auths": {"r.io": auth("x", "y")}}))
    assert await Keychain(environ={**env, "XDG_RUNTIME_DIR": str(tmp_path)}).find("r.io", "n") == Credentials("x", "y")
    assert await Keychain(environ={"REGISTRY_AUTH_FILE": str(tmp_path / "containers/auth.json")}).find("r.io", "n") == Credentials("x", "y")


def helper(env: dict[str, str], name: str, script: str) -> None:
    path = Path(env["HOME"]) / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\nread server\necho $server >> {env['HOME']}/asked\n{script}\n")
    path.chmod(0o755)


async def test_helpers_are_asked_once_per_registry(env: dict[str, str]) -> None:
    helper(env, "good", """echo '{"Username":"u","Secret":"s"}'""")
    helper(env, "token", """echo '{"Username":"<token>","Secret":"s"}'""")
    helper(env, "none", "echo credentials not found in native keychain; exit 1")
    write(env, {"credsStore": "good", "credHelpers": {"t.io": "token", "n.io": "none"}, "auths": {"n.io": auth("file", "f")}})
    keys = Keychain(environ=env)
    for _ in range(2):
        assert await keys.find("docker.io", "library/x") == Credentials("u", "s")
    assert await keys.find("t.io", "x") == Credentials("<token>", identity_token="s")
    assert await keys.find("n.io", "x") == Credentials("file", "f")
    assert (Path(env["HOME"]) / "asked").read_text().split() == ["https://index.docker.io/v1/", "t.io", "n.io"]


async def test_broken_helpers_and_files_are_told_without_their_secrets(env: dict[str, str]) -> None:
    helper(env, "bad", "echo s3cret; exit 3")
    helper(env, "odd", "echo s3cret")
    for store in ("bad", "odd", "missing", "../evil", "a b"):
        write(env, {"credsStore": store})
        with pytest.raises(CredentialsError) as e:
            await Keychain(environ=env).find("r.io", "x")
        assert e.value.hint
        assert "s3cret" not in str(e.value) + e.value.hint
    write(env, {"auths": {"r.io": {"auth": "!!!"}}})
    assert "base64" in await _fails(env)
    write(env, {"auths": [1]})
    assert "not an object" in await _fails(env)
    (Path(env["HOME"]) / ".docker/config.json").write_text("{s3cret")
    assert "s3cret" not in await _fails(env)


async def _fails(env: dict[str, str]) -> str:
    with pytest.raises(CredentialsError) as e:
        await Keychain(environ=env).find("r.io", "x")
    return str(e.value)


def test_secrets_are_not_in_the_repr() -> None:
    assert repr(Credentials("u", "p4ss", "t0ken")) == "Credentials(username='u')"
