"""Chooses the base image: the configured registry reference or OCI archive, else the announced fallback made from the running Python.

A registry is asked once and briefly: name, connection, manifest. What was tried and why it was not used stays with the result, for the
screen and for the labels of every image made from it. The outcome of asking is not remembered between runs: the network may be back.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import tarfile
import time
from typing import TYPE_CHECKING

from ci.base.errors import BaseError
from ci.base.stopping import in_thread
from ci.exits import Exit
from ci.stage import Base

if TYPE_CHECKING:
    from pathlib import Path

    import dagger

    from ci.config.model import BaseConfig

_CONNECT_TIMEOUT = 2.0


class _NotUsable(Exception):
    """Why a registry image is not used, in a few words."""


async def resolve(config: BaseConfig, *, root: Path, cache: Path) -> Base:
    """Resolve `base.image`, falling back as the configuration allows; BaseError when nothing is left."""
    return await resolve_reference(config.image, config, root=root, cache=cache)


async def resolve_reference(image: str, config: BaseConfig, *, root: Path, cache: Path) -> Base:
    """Resolve any of what `base.image` and the values of `base.aliases` may be."""
    if image == "host":
        return await in_thread(_host, cache, image, ())
    if image.startswith("oci-archive:"):
        return await in_thread(_archive, root / image.removeprefix("oci-archive:"), image)
    started = time.monotonic()
    try:
        digest = await asyncio.wait_for(_manifest_digest(image), config.timeout)
    except (_NotUsable, TimeoutError) as error:
        reason = f"{image}: {str(error) or 'no answer'} ({time.monotonic() - started:.1f} s)"
        if config.fallback == "none":
            raise BaseError(
                f"cannot use {reason}",
                where="base.image",
                hint="set base.fallback to host (for a release also base.releases_may_use_host), "
                "or name an image or archive that this machine can read",
            ) from error
        return await in_thread(_host, cache, image, (reason,))
    return pinned(image, digest)


def pinned(image: str, digest: str = "") -> Base:
    """Return the base that a reference stands for, by its own digest or the one that a registry gave; nobody is asked.

    Raises:
        BaseError: it is no reference, or has no digest.

    """
    from pocket.oci.reference import InvalidReference, parse

    try:
        reference = parse(image)
    except InvalidReference as error:
        raise BaseError(str(error), where="base.image", exit=Exit.USAGE) from error
    digest = digest or reference.digest or ""
    if not digest:
        raise BaseError(f"{image} has no digest", where="base.image", exit=Exit.USAGE)
    return Base(
        kind="image",
        wanted=image,
        identity=digest,
        description=image,
        reference=str(reference.with_digest(digest)),
        labels=_labels("image", name=image, digest=digest),
    )


def container(dag: dagger.Client, base: Base) -> dagger.Container:
    """Start a container from the base."""
    if base.archive is not None:
        return dag.container().import_(dag.host().file(str(base.archive)))
    return dag.container().from_(base.reference)


def _host(cache: Path, wanted: str, tried: tuple[str, ...]) -> Base:
    from ci.base.hostroot import host_root

    made = host_root(cache)
    labels = _labels("host", name=f"host (python {made.python})", digest=made.digest) | made.labels
    if tried:
        labels["weighbridge.base.wanted"] = wanted
        labels["weighbridge.base.tried"] = tried[0].rpartition(" (")[0]
    return Base(
        kind="host",
        wanted=wanted,
        identity=made.digest,
        description=f"python {made.python.partition(' ')[0]} root file system",
        archive=made.archive,
        tried=tried,
        labels=labels,
    )


def _archive(path: Path, wanted: str) -> Base:
    try:
        with tarfile.open(path) as tar:
            member = tar.extractfile("index.json")
            assert member is not None
            manifests = json.load(member)["manifests"]
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise BaseError(f"{wanted} is not an OCI archive: {error}", where="base.image", exit=Exit.USAGE) from error
    digest = manifests[0]["digest"] if len(manifests) == 1 else "sha256:" + hashlib.sha256(json.dumps(manifests).encode()).hexdigest()
    return Base(
        kind="archive",
        wanted=wanted,
        identity=digest,
        description=wanted,
        archive=path,
        labels=_labels("archive", name=wanted, digest=digest),
    )


def _labels(kind: str, *, name: str, digest: str) -> dict[str, str]:
    return {"org.opencontainers.image.base.name": name, "org.opencontainers.image.base.digest": digest, "weighbridge.base.kind": kind}


async def _manifest_digest(image: str) -> str:
    """Ask the registry for the digest of the image; _NotUsable says why there is none."""
    from pocket.oci.reference import InvalidReference, parse

    try:
        reference = parse(image)
    except InvalidReference as error:
        raise BaseError(str(error), where="base.image", exit=Exit.USAGE) from error
    await _reachable(reference.registry)
    return await _ask(image)


async def _ask(image: str) -> str:
    from pocket.oci.client import Client, Retry
    from pocket.oci.errors import PocketError

    try:
        async with Client(retry=Retry(attempts=1)) as client:
            digest = await client.exists(image)
    except PocketError as error:
        raise _NotUsable(str(error)) from error
    if digest is None:
        raise _NotUsable("the registry does not have it")
    return digest


async def _reachable(registry: str) -> None:
    """Find out within seconds whether anything listens, before an HTTP client is even imported."""
    host, _, port = ("registry-1.docker.io" if registry == "docker.io" else registry).partition(":")
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, int(port or 443))
    except socket.gaierror as error:
        raise _NotUsable("its name does not resolve") from error
    except TimeoutError as error:
        raise _NotUsable("no route") from error
    except OSError as error:
        raise _NotUsable(f"no route: {error.strerror or error}") from error
    writer.close()
