"""Git repositories by the `git` program: what refs there are, and the tree of a commit as files.

Works for https, file and local directories; everything else git can reach works too when the machine's git is set up for it.
Nothing of the user's git configuration that runs programs is used, and no question is ever asked.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocket.errors import PocketError

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


SYMBOLIC = "symbolic "  # before the name of a ref that names another one


class GitError(PocketError):
    """Git is missing, or a repository or ref cannot be had."""


class RefusedError(GitError):
    """There is no repository or no such ref, in the words of the Dagger engine."""

    hint_shown = False


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is; `headers` are HTTP headers with credentials, which appear in no message."""

    url: str
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteRef:
    """A ref by its full name ("HEAD" or "" for a bare commit) and the commit it points to."""

    name: str
    commit: str


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "SSL_CERT_FILE", "GIT_SSL_CAINFO") or k.lower().endswith("_proxy")}
    return {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_ASKPASS": "true", "LC_ALL": "C", "GIT_CONFIG_COUNT": "0"}


def git(*words: str, remote: Remote | None = None, cwd: Path | None = None, extra: Mapping[str, str] | None = None) -> str:
    """Run git and give its standard output.

    Raises:
        GitError: there is no git, or it failed; the message has its last line.
    """
    if not shutil.which("git"):
        raise GitError("git is not installed on this machine", hint="install git (apt install git)")
    environment = _environment() | dict(extra or {})
    settings = [("safe.directory", "*"), ("protocol.file.allow", "always"), ("advice.detachedHead", "false")]
    settings += [("http.extraHeader", h) for h in (remote.headers if remote else ())]
    environment["GIT_CONFIG_COUNT"] = str(len(settings))  # by environment: credentials must not be in the process list
    for n, (key, value) in enumerate(settings):
        environment[f"GIT_CONFIG_KEY_{n}"], environment[f"GIT_CONFIG_VALUE_{n}"] = key, value
    done = subprocess.run(["git", *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise GitError(f"git {words[0]} failed: {lines[-1]}", hint="check the address, the ref and the credentials")
    return done.stdout


def refs(remote: Remote) -> dict[str, str]:
    """Give all refs of a repository: full name → commit (a tag's own commit, not the tag object)."""
    found: dict[str, str] = {}
    for line in git("ls-remote", "--symref", "--", remote.url, remote=remote).splitlines():
        commit, _, name = line.partition("\t")
        if commit.startswith("ref: "):
            found[f"{SYMBOLIC}{name}"] = commit.removeprefix("ref: ")
        elif name.endswith("^{}"):
            found[name[:-3]] = commit
        else:
            found.setdefault(name, commit)
    return found


def find(remote: Remote, name: str, *, kinds: Sequence[str] = ("refs/heads/", "refs/tags/")) -> RemoteRef:
    """Give the ref of a short or full name, or a commit.

    Raises:
        GitError: the repository has none such.
    """
    if COMMIT.fullmatch(name):
        return RemoteRef("", name)
    known = refs(remote)
    name = known.get(f"{SYMBOLIC}{name}", name)  # HEAD is the branch that it names
    full = f"{kinds[0]}{name}" if len(kinds) == 1 and not name.startswith("refs/") else name
    for candidate in (full, *(f"{kind}{name}" for kind in kinds)):
        if candidate in known and not candidate.startswith(SYMBOLIC):
            return RemoteRef(candidate, known[candidate])
    raise RefusedError(f'repository does not contain ref "{full}"', hint="branches and tags: git ls-remote")


def names(remote: Remote, prefix: str, patterns: Sequence[str] | None) -> list[str]:
    """Give the short names of refs below `prefix` that match one of the patterns (all without patterns), sorted."""
    short = [name.removeprefix(prefix) for name in refs(remote) if name.startswith(prefix)]
    wanted = [p.removeprefix(prefix) for p in patterns or ()]
    return sorted(n for n in short if not wanted or any(fnmatch.fnmatchcase(n, p) for p in wanted))


def latest_version(remote: Remote) -> RemoteRef:
    """Give the tag with the highest version; a pre-release comes before its release.

    Raises:
        GitError: no tag is a version.
    """
    known = refs(remote)
    versions = [(_order(m), n) for n in known if n.startswith("refs/tags/") and (m := _VERSION.fullmatch(n[10:]))]
    if not versions:
        raise GitError("no version tags found")
    name = max(versions)[1]
    return RemoteRef(name, known[name])


def _order(version: re.Match[str]) -> tuple[tuple[int, ...], bool, list[tuple[int, int, str]]]:
    """Give what sorts versions as semver has it: numbers before words in a pre-release."""
    *numbers, before = version.groups()
    parts = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in before.split(".")] if before else []
    return tuple(map(int, numbers)), not before, parts


def checkout(remote: Remote, ref: RemoteRef, into: Path, *, depth: int, tags: bool, keep_git: bool) -> None:
    """Write the tree of a commit into an empty directory; `depth` 0 means the whole history."""
    git("init", "-q", "-b", "main", ".", cwd=into)
    git("remote", "add", "origin", remote.url, cwd=into)
    wanted = ref.name or ref.commit
    shallow = [f"--depth={depth}"] if depth > 0 else []
    try:
        git("fetch", "-q", *shallow, "--tags" if tags else "--no-tags", "origin", wanted, cwd=into, remote=remote)
    except GitError:  # a server may refuse to give a bare commit: then everything is fetched
        git("fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*", cwd=into, remote=remote)
    branch = ref.name.removeprefix("refs/heads/") if ref.name.startswith("refs/heads/") else ""
    git("checkout", "-q", "--force", *(("-B", branch) if branch else ()), ref.commit, cwd=into)
    if remote.url.startswith("/"):
        git("remote", "remove", "origin", cwd=into)  # its place is one of this session
    if keep_git:
        for name in ("FETCH_HEAD", "logs", "hooks", "index"):
            place = into / ".git" / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        git("reset", "-q", cwd=into)
    else:
        shutil.rmtree(into / ".git")


def merge_base(remote: Remote, one: str, other: str, work: Path) -> str:
    """Give the best common ancestor of two commits, in a scratch directory."""
    git("init", "-q", "-b", "main", ".", cwd=work)
    git("fetch", "-q", "--tags", "--", remote.url, "+refs/heads/*:refs/remotes/origin/*", cwd=work, remote=remote)
    return git("merge-base", one, other, cwd=work).strip()
