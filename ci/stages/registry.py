"""Pushing to a registry, and asking one whether it still holds what was pushed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ci.errors import UsageError
from ci.stage import InfraError
from ci.stages.kept import archive_path
from pocket.oci import archive
from pocket.oci.blobs import BlobDir
from pocket.oci.client import Client, RegistryError, Retry
from pocket.oci.errors import PocketError
from pocket.oci.reference import Reference, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from ci.config.model import PushConfig

_ASK_SECONDS = 5.0


def repository(push: PushConfig) -> Reference:
    """Return the configured repository; UsageError when it is none, or has a tag of its own."""
    try:
        reference = parse(push.target or "", default_tag=None)
    except PocketError as error:
        raise UsageError(str(error), where="push.target", hint=error.hint) from error
    if reference.tag or reference.digest:
        raise UsageError(f"{push.target} has a tag or digest", where="push.target", hint="name the repository alone; the tag is push.tag")
    return reference


async def to_registry(cache: Path, push: PushConfig, wanted: Mapping[str, str], *, tell: Callable[[str], None]) -> None:
    """Push the archives of digests (→ tags) from the cache; `tell` hears of requests that are tried again.

    Raises:
        InfraError: why the registry did not take them.

    """
    target = repository(push)
    try:
        async with _client(push, target, retry=_Told(registry=target.registry, tell=tell)) as client:
            await client.ping(target.registry)
            for digest, tag in wanted.items():
                with tempfile.TemporaryDirectory(prefix="push-", dir=cache) as scratch:
                    image = await asyncio.to_thread(archive.read, archive_path(cache, digest), BlobDir(Path(scratch)))
                    if image.digest != digest:
                        name = archive_path(cache, digest).name
                        raise InfraError(f"{name} holds {image.digest}", hint="remove it and run again", lasting=True)
                    await client.push(target.with_tag(tag), image)
    except (PocketError, OSError) as error:
        hint = getattr(error, "hint", "") or "is the registry up, and may you push there?"
        status = error.status if isinstance(error, RegistryError) else 0
        refused = 400 <= status < 500 and status not in {408, 429}
        raise InfraError(f"cannot push to {push.target}: {error}", hint=f"{hint} (the built image is kept)", lasting=refused) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told(Retry):
    """The client's own retries, which are cheaper than those of a whole stage, where people can see them."""

    registry: str
    tell: Callable[[str], None]

    async def wait(self, attempt: int, response: httpx.Response | None = None) -> None:
        """Say what is tried again, and why; then wait."""
        why = "cannot be reached" if response is None else f"answered {response.status_code}"
        self.tell(f"{self.registry} {why}: request tried again ({attempt + 2} of {self.attempts})")
        await Retry.wait(self, attempt, response)  # not super(): `slots` makes a second class of this one


def missing_in_registry(push: PushConfig, wanted: Mapping[str, str]) -> str:
    """Say which digest the registry no longer holds under its tag, or that it cannot be asked; empty when all are there."""
    return asyncio.run(_missing(push, wanted))


async def _missing(push: PushConfig, wanted: Mapping[str, str]) -> str:
    target = repository(push)
    try:
        async with asyncio.timeout(_ASK_SECONDS), _client(push, target, retry=Retry(attempts=1)) as client:
            for digest, tag in wanted.items():
                if await client.exists(target.with_tag(tag)) != digest:
                    return f"{push.target} no longer holds {digest[:19]}… as {tag}"
    except (RegistryError, TimeoutError, OSError) as error:
        return f"{push.target} cannot be asked: {str(error) or 'no answer'}"
    return ""


def _client(push: PushConfig, target: Reference, *, retry: Retry | None = None) -> Client:
    return Client(plain_http=[target.registry] if push.insecure else [], retry=retry)
