"""`git`: repositories, refs, and trees of commits as directories."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocket import gitrepo
from pocket.api.changeset import Changeset
from pocket.api.directory import filter_
from pocket.api.registry import field
from pocket.api.trees import view
from pocket.errors import PocketError
from pocket.gitrepo import RefusedError, Remote, RemoteRef
from pocket.graph import ROOT, Tree, digest_of
from pocket.ops.edit import SCRATCH_REF
from pocket.ops.given import given
from pocket.store import disk
from pocket.tree.export import export_tree
from pocket.tree.hostsync import sync

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj
    from pocket.store.layer import Snapshot


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository: a remote, or (`tree`) a directory with a `.git`, exported to the remote's place."""

    remote: Remote
    tree: Tree | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """A ref of a repository."""

    repository: Repository
    ref: RemoteRef


@field("Query", "git")
def git(
    e: Engine,
    _q: None,
    url: str,
    http_auth_username: str,
    http_auth_token: Obj | None = None,
    http_auth_header: Obj | None = None,
    ssh_auth_socket: Obj | None = None,
    experimental_service_host: Obj | None = None,
) -> Repository:
    if ssh_auth_socket is not None or experimental_service_host is not None:
        raise PocketError("not supported by pocket: git over ssh sockets or services — use a Dagger engine")
    headers = []
    if http_auth_token is not None:
        token = e.secrets.value(http_auth_token.state).decode()
        basic = base64.b64encode(f"{http_auth_username or 'x-access-token'}:{token}".encode()).decode()
        headers.append(f"Authorization: Basic {basic}")
    if http_auth_header is not None:
        headers.append(f"Authorization: {e.secrets.value(http_auth_header.state).decode()}")
    return Repository(Remote(_address(e, url), tuple(headers)))


def _address(e: Engine, url: str) -> str:
    place = e.host_path(url)
    if "://" not in url and not re.match(r"[^/]+@[^/]+:", url):
        if place.exists():
            return str(place)
        url = f"https://{url}"
    if not url.startswith("file://"):
        e.need_network(url)
    return url


@field("Directory", "asGit")
async def as_git(e: Engine, d: Tree) -> Repository:
    place = e.store.tmp()
    await e.blocking(export_tree, await view(e, d), d.path, str(place))
    if not (place / ".git").exists() and not all((place / name).exists() for name in ("HEAD", "objects", "refs")):
        raise RefusedError("git error: not a git repository", hint="give the directory that holds .git, unfiltered")
    return Repository(Remote(str(place)), d)


@field("GitRepository", "url")
def url(_: Engine, r: Repository) -> str | None:
    return None if r.tree is not None else r.remote.url


@field("GitRepository", "head")
async def head(e: Engine, r: Repository) -> Ref:
    return await _ref(e, r, "HEAD")


@field("GitRepository", "ref")
async def ref(e: Engine, r: Repository, name: str) -> Ref:
    return await _ref(e, r, name)


@field("GitRepository", "branch")
async def branch(e: Engine, r: Repository, name: str) -> Ref:
    return Ref(r, await e.blocking(gitrepo.find, r.remote, name, kinds=("refs/heads/",)))


@field("GitRepository", "tag")
async def tag(e: Engine, r: Repository, name: str) -> Ref:
    return Ref(r, await e.blocking(gitrepo.find, r.remote, name, kinds=("refs/tags/",)))


@field("GitRepository", "commit")
def commit(_: Engine, r: Repository, id: str) -> Ref:  # noqa: A002 - the API's name
    if not gitrepo.COMMIT.fullmatch(id):
        raise RefusedError(f'invalid commit SHA: "{id}"')
    return Ref(r, RemoteRef("", id))


@field("GitRepository", "latestVersion")
async def latest_version(e: Engine, r: Repository) -> Ref:
    return Ref(r, await e.blocking(gitrepo.latest_version, r.remote))


@field("GitRepository", "branches")
async def branches(e: Engine, r: Repository, patterns: list[str] | None = None) -> list[str]:
    return await e.blocking(gitrepo.names, r.remote, "refs/heads/", patterns)


@field("GitRepository", "tags")
async def tags(e: Engine, r: Repository, patterns: list[str] | None = None) -> list[str]:
    return await e.blocking(gitrepo.names, r.remote, "refs/tags/", patterns)


@field("GitRepository", "uncommitted")
async def uncommitted(e: Engine, r: Repository) -> Changeset:
    if r.tree is None:
        return Changeset(Tree(SCRATCH_REF), Tree(SCRATCH_REF))
    committed = await tree(e, await _ref(e, r, "HEAD"), discard_git_dir=True, depth=1, include_tags=False)
    return Changeset(committed, filter_(e, r.tree, [".git"], [], gitignore=True))


async def _ref(e: Engine, r: Repository, name: str) -> Ref:
    return Ref(r, await e.blocking(gitrepo.find, r.remote, name))


@field("GitRef", "commit")
def ref_commit(_: Engine, r: Ref) -> str:
    return r.ref.commit


@field("GitRef", "ref")
def ref_name(_: Engine, r: Ref) -> str:
    return r.ref.name or r.ref.commit


@field("GitRef", "commonAncestor")
async def common_ancestor(e: Engine, r: Ref, other: Obj) -> Ref:
    work = e.store.tmp()
    try:
        found = await e.blocking(gitrepo.merge_base, r.repository.remote, r.ref.commit, other.state.ref.commit, work)
    finally:
        await e.blocking(disk.remove_tree, work)
    return Ref(r.repository, RemoteRef("", found))


@field("GitRef", "tree")
async def tree(e: Engine, r: Ref, discard_git_dir: bool, depth: int, include_tags: bool) -> Tree:
    remote = r.repository.remote
    place = "local" if r.repository.tree is not None else remote.url
    key = digest_of(["git 2", place, r.ref.commit, "" if discard_git_dir else r.ref.name, discard_git_dir, depth, include_tags])
    record = e.store.actions.get(key)
    snapshot = e.store.snapshot(record["layers"][ROOT], record["keys"][ROOT]) if record else None
    if snapshot is None:
        with e.trace("GitRef.tree", {"url": remote.url, "commit": r.ref.commit}):
            snapshot = await e.blocking(_check_out, e, r, depth, include_tags, not discard_git_dir)
        layers = {"layers": {ROOT: [la.id for la in snapshot.layers]}, "keys": {ROOT: snapshot.key}}
        e.store.actions.put(key, layers)
    return Tree(given(snapshot))


def _check_out(e: Engine, r: Ref, depth: int, tags: bool, keep_git: bool) -> Snapshot:
    work: Path = e.store.tmp()
    try:
        gitrepo.checkout(r.repository.remote, r.ref, work, depth=depth, tags=tags, keep_git=keep_git)
        return sync(e.store, work, include=[], exclude=[], gitignore=False)
    finally:
        disk.remove_tree(work)
