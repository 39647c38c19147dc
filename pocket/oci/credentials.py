"""Who we are to a registry: given credentials first, then Docker's and Podman's files and their credential helpers.

Nothing here is ever printed: secrets are kept out of `repr`, and an error of a helper is shown without its output.
"""

import asyncio
import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocket.errors import PocketError
from pocket.oci.reference import DOCKER_HUB

_HUB_KEY = "https://index.docker.io/v1/"  # what Docker files its own registry under
_HUB_NAMES = {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_SECONDS = 30


class CredentialsError(PocketError):
    """A credentials file or helper that cannot be used."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and password, or the refresh token that some helpers give instead."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class Keychain:
    """Finds credentials by registry and repository. `given` maps registries, or prefixes of repositories, to credentials."""

    def __init__(self, given: Mapping[str, Credentials] | None = None, *, environ: Mapping[str, str] | None = None) -> None:
        self._given = {_key(k): v for k, v in (given or {}).items()}
        self._environ = os.environ if environ is None else environ
        self._files: list[tuple[Path, dict[str, Any]]] | None = None
        self._asked: dict[tuple[str, str], Credentials | None] = {}

    async def find(self, registry: str, repository: str) -> Credentials | None:
        """Return the most specific credentials for a repository, or None to go on anonymously."""
        keys = list(_prefixes(registry, repository))
        for key in keys:
            if key in self._given:
                return self._given[key]
        if self._files is None:
            self._files = list(self._load())
        for path, content in self._files:
            helper = _section(content, "credHelpers", path).get(registry) or content.get("credsStore")
            if isinstance(helper, str) and (found := await self._ask(helper, registry)):
                return found
            auths = {_key(k): v for k, v in _section(content, "auths", path).items()}
            for key in keys:
                if isinstance(auths.get(key), dict) and (found := _decode(auths[key], path)):
                    return found
        return None

    def _load(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        env = self._environ
        home = Path(env.get("HOME") or "/nonexistent")
        docker = Path(env["DOCKER_CONFIG"]) if env.get("DOCKER_CONFIG") else home / ".docker"
        places = [Path(env["REGISTRY_AUTH_FILE"])] if env.get("REGISTRY_AUTH_FILE") else []
        places.append(docker / "config.json")
        if env.get("XDG_RUNTIME_DIR"):
            places.append(Path(env["XDG_RUNTIME_DIR"]) / "containers" / "auth.json")
        places.append(home / ".config" / "containers" / "auth.json")
        for path in places:
            try:
                content = json.loads(path.read_bytes())
            except OSError:
                continue
            except ValueError as e:
                raise CredentialsError(f"{path} is not valid JSON: {e}", hint="repair or remove the file, then log in again") from e
            if isinstance(content, dict):
                yield path, content

    async def _ask(self, helper: str, registry: str) -> Credentials | None:
        """Run a credential helper once per registry; "not found" is an answer, anything else an error."""
        if (helper, registry) not in self._asked:
            self._asked[helper, registry] = await self._run(helper, _HUB_KEY if registry == DOCKER_HUB else registry)
        return self._asked[helper, registry]

    async def _run(self, helper: str, server: str) -> Credentials | None:
        if not _HELPER.fullmatch(helper):
            raise CredentialsError(f"invalid name of a credential helper: {helper!r}", hint="correct credsStore in Docker's config.json")
        program = f"docker-credential-{helper}"
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(program, "get", stdin=pipe, stdout=pipe, stderr=pipe, env=dict(self._environ))
        except OSError as e:
            raise CredentialsError(f"cannot run {program}: {e.strerror}", hint="install it, or remove it from Docker's config.json") from e
        try:
            out, _ = await asyncio.wait_for(process.communicate(server.encode()), _HELPER_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise CredentialsError(f"{program} did not answer within {_HELPER_SECONDS} s", hint="run it by hand to see why") from None
        if process.returncode:
            if b"not found" in out:
                return None
            raise CredentialsError(f"{program} failed for {server}", hint=f"run `echo {server} | {program} get` to see why")
        try:
            answer = json.loads(out)
            user, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError):
            raise CredentialsError(f"{program} gave no valid answer", hint="update it") from None
        return Credentials(user, identity_token=secret) if user == "<token>" else Credentials(user, secret)


def _key(name: str) -> str:
    """Return the form in which keys are compared: no scheme, no API path, Docker's registry by its one name."""
    name = re.sub(r"^https?://", "", name).rstrip("/")
    host, slash, path = name.partition("/")
    if host in _HUB_NAMES:
        host = DOCKER_HUB
    return host if path in ("", "v1", "v2") else f"{host}{slash}{path}"


def _prefixes(registry: str, repository: str) -> Iterator[str]:
    parts = [registry, *repository.split("/")]
    for end in range(len(parts), 0, -1):
        yield "/".join(parts[:end])


def _section(content: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = content.get(name) or {}
    if not isinstance(value, dict):
        raise CredentialsError(f"{name} in {path} is not an object", hint="repair or remove the file, then log in again")
    return value


def _decode(entry: dict[str, Any], path: Path) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise CredentialsError(f"an entry of {path} is not valid base64", hint="log in again") from None
        password = password.rstrip("\0")
    return Credentials(user, password, token) if user or token else None
