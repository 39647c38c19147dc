"""`address`: an image, directory, secret or the like by one text, as Dagger's command line takes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from pocket.api import core, git, host, secret
from pocket.api.container_image import from_
from pocket.api.registry import field
from pocket.api.trees import view
from pocket.errors import PocketError
from pocket.graph import Leaf, Tree
from pocket.services import Service

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.values import Container, Secret

#: What is taken for a repository elsewhere, and not for a path of this machine.
_REMOTE = re.compile(r"(?:https?|ssh|git)://|[^/]+@[^/]+:|(?:github\.com|gitlab\.com|bitbucket\.org)/")


@dataclass(frozen=True, slots=True)
class _Git:
    """The parts of `repository#ref:path`."""

    url: str
    ref: str = ""
    path: str = ""


def _git(address: str) -> _Git | None:
    if not _REMOTE.match(address):
        return None
    url, _, fragment = address.partition("#")
    ref, _, path = fragment.partition(":")
    return _Git(url, ref, path.strip("/"))


def _local(address: str) -> str:
    return address.removeprefix("file://")


def _repository(e: Engine, url: str) -> git.Repository:
    return git.git(e, None, url, "")


async def _tree(e: Engine, found: _Git) -> Tree:
    repository = _repository(e, found.url)
    ref = await (git.ref(e, repository, found.ref) if found.ref else git.head(e, repository))
    return await git.tree(e, ref, discard_git_dir=False, depth=1, include_tags=False)


@field("Query", "address")
def address(_: Engine, _q: None, value: str) -> str:
    if not value:
        raise PocketError("resource cannot have empty address")
    return value


@field("Address", "value")
def value(_: Engine, a: str) -> str:
    return a


@field("Address", "container")
async def container(e: Engine, a: str) -> Container:
    return await from_(e, core.container(e, None), a)


@field("Address", "directory")
async def directory(e: Engine, a: str, exclude: list[str], include: list[str], no_cache: bool, gitignore: bool) -> Tree:
    if (found := _git(a)) is None:
        return await host.directory(e, "host", _local(a), exclude, include, no_cache, gitignore)
    root = await _tree(e, found)
    if found.path:
        (await view(e, root)).directory(found.path)
    return Tree(root.ref, found.path)


@field("Address", "file")
async def file(e: Engine, a: str, no_cache: bool) -> Leaf:
    if (found := _git(a)) is None:
        return await host.file(e, "host", _local(a), no_cache)
    if not found.path:
        raise PocketError("no file path specified within git repository")
    root = await _tree(e, found)
    (await view(e, root)).file(found.path)
    return Leaf(root.ref, found.path)


async def _local_repository(e: Engine, path: str) -> git.Repository:
    return await git.as_git(e, await host.directory(e, "host", path, [], [], no_cache=False, gitignore=False))


@field("Address", "gitRepository")
async def git_repository(e: Engine, a: str) -> git.Repository:
    if (found := _git(a)) is None:
        return await _local_repository(e, _local(a))
    if found.ref or found.path:
        raise PocketError(f"git repository address cannot contain {'ref' if found.ref else 'subdir'}")
    return _repository(e, found.url)


@field("Address", "gitRef")
async def git_ref(e: Engine, a: str) -> git.Ref:
    found = _git(a)
    if found is None:
        path, _, name = _local(a).partition("#")
        repository = await _local_repository(e, path)
    elif found.path:
        raise PocketError("git ref address cannot contain subdir")
    else:
        repository, name = _repository(e, found.url), found.ref
    return await (git.ref(e, repository, name) if name else git.head(e, repository))


@field("Address", "secret", pure=False)
async def secret_(e: Engine, a: str) -> Secret:
    scheme, colon, rest = a.partition(":") if ":" in a else ("env", ":", a)
    uri, _, query = f"{scheme}{colon}//{rest.removeprefix('//')}".partition("?")
    asked = parse_qs(query)
    key = asked.pop("cacheKey", [None])[0]
    return await secret.secret(e, None, f"{uri}?{urlencode(asked, doseq=True)}" if asked else uri, key)


@field("Address", "service")
def service(_: Engine, a: str) -> Service:
    parts = urlsplit(a)
    if parts.scheme not in ("tcp", "udp"):
        raise PocketError(f'unsupported service address: "{parts.scheme}". Must be a valid tcp:// or udp:// URL')
    try:
        port = parts.port
    except ValueError as e:
        raise PocketError(f"address {a}: {e}") from e
    if not port:
        raise PocketError(f"address {parts.netloc}: missing port in address")
    return Service.of_host([{"frontend": port, "backend": port, "protocol": parts.scheme.upper()}], parts.hostname or "")


@field("Address", "socket")
def socket(e: Engine, a: str) -> str:
    return host.unix_socket(e, "host", a.removeprefix("unix://"))
