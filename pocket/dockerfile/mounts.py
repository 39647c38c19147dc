"""`RUN --mount`: cache, bind, secret and tmpfs mounts of one instruction."""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from pocket.dockerfile.parse import DockerfileError
from pocket.graph import Leaf, Tree
from pocket.ops import edits
from pocket.ops.edit import SCRATCH_REF, edit
from pocket.values import CacheVolume, MountPoint, Secret

if TYPE_CHECKING:
    from pocket.dockerfile.parse import Instruction
    from pocket.values import Container

_TRUE = ("", "true", "1")
_SIZES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def options_of(text: str, line: int) -> dict[str, str]:
    """Read `type=cache,target=/x,…`; keys in their long names."""
    found: dict[str, str] = {"type": "bind"}
    for item in next(csv.reader([text])):
        key, _, value = item.partition("=")
        key = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "rw": "readwrite"}.get(key, key)
        found[key] = value
    if found["type"] not in ("bind", "cache", "tmpfs", "secret", "ssh"):
        raise DockerfileError(line, f"unsupported mount type {found['type']!r}")
    return found


async def mounts_of(
    instruction: Instruction,
    container: Container,
    source: Callable[[str], Awaitable[Tree]],
    secrets: Mapping[str, Secret],
    expand: Callable[[str], str],
) -> tuple[list[MountPoint], list[tuple[str, Secret]]]:
    """Give the mounts of a RUN and the secrets it sees as variables; `source` gives the tree of a stage, or of the context for ""."""
    mounts: list[MountPoint] = []
    variables: list[tuple[str, Secret]] = []
    for text in instruction.all_flags("mount"):
        options = options_of(expand(text), instruction.line)
        match options["type"]:
            case "cache":
                mounts.append(await _cache(options, container, source, instruction.line))
            case "bind":
                mounts.append(await _bind(options, container, source, instruction.line))
            case "tmpfs":
                target = _target(options, container, instruction.line)
                mounts.append(MountPoint(target=target, kind="temp", size=_size(options.get("size"))))
            case "secret":
                _secret(options, container, secrets, instruction.line, mounts, variables)
            case "ssh":
                raise DockerfileError(instruction.line, "not supported by pocket: --mount=type=ssh — use a Dagger engine")
    return mounts, variables


def _target(options: dict[str, str], container: Container, line: int) -> str:
    if not options.get("target"):
        raise DockerfileError(line, f"a {options['type']} mount needs a target")
    return container.resolve(options["target"])


def _below(tree: Tree, path: str) -> Tree:
    normal = posixpath.normpath(posixpath.join("/", path)).lstrip("/")
    return Tree(tree.ref, posixpath.join(tree.path, normal) if normal else tree.path)


async def _cache(options: dict[str, str], container: Container, source: Callable[[str], Awaitable[Tree]], line: int) -> MountPoint:
    target = _target(options, container, line)
    owner = f"{options.get('uid', '0')}:{options.get('gid', '0')}" if "uid" in options or "gid" in options else ""
    seed = _below(await source(options["from"]), options.get("source", "")) if options.get("from") else None
    sharing = options.get("sharing", "shared").upper()
    volume = CacheVolume(f"dockerfile:{options.get('id') or target}", sharing, seed, owner)
    return MountPoint(target=target, kind="cache", cache=volume, owner=owner)


async def _bind(options: dict[str, str], container: Container, source: Callable[[str], Awaitable[Tree]], line: int) -> MountPoint:
    tree = _below(await source(options.get("from", "")), options.get("source", ""))
    # Cut out, so that a change elsewhere in the context does not run the step again; a file is bound as itself.
    return MountPoint(
        target=_target(options, container, line), kind="directory", tree=tree, readonly=options.get("readwrite", "false") not in _TRUE
    )


def _secret(
    options: dict[str, str],
    container: Container,
    secrets: Mapping[str, Secret],
    line: int,
    mounts: list[MountPoint],
    variables: list[tuple[str, Secret]],
) -> None:
    ident = options.get("id") or posixpath.basename(options.get("target", ""))
    secret = secrets.get(ident)
    if secret is None:
        if options.get("required", "false") in _TRUE:
            raise DockerfileError(line, f"secret {ident}: not found", hint="pass it in dockerBuild(secrets: …)")
        return
    if options.get("env"):
        variables.append((options["env"], secret))
        if not options.get("target"):
            return
    target = container.resolve(options.get("target") or f"/run/secrets/{ident}")
    owner = f"{options.get('uid', '0')}:{options.get('gid', '0')}"
    mode = int(options.get("mode", "0400"), 8)
    mounts.append(MountPoint(target=target, kind="secret", secret=secret, owner=owner, mode=mode))


def _size(text: str | None) -> int | None:
    if not text:
        return None
    unit = text[-1].lower()
    return int(text[:-1]) * _SIZES[unit] if unit in _SIZES else int(text)


def script_mount(path: str, content: str) -> MountPoint:
    """Give the mount that shows a here-document with a `#!` line as an executable file."""
    ref = edit("write_file", SCRATCH_REF, edits.write_file, path="script", text=content, mode=0o755)
    return MountPoint(target=path, kind="file", leaf=Leaf(ref, "script"))
