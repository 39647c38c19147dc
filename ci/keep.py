"""Keeps the container of a failed stage as an image archive in the cache, so that somebody can look around in it.

One per stage and working tree: the last failure replaces the one before. What was mounted is put in its place in the archive, as far as it
is content: never caches, secrets and sockets. The embedded engine hands out the very container whose step failed; of another engine only
what a stage itself still holds can be kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ci.files import digest_of
from ci.paths import write_atomically

if TYPE_CHECKING:
    import dagger

SESSION = {"POCKET_KEEP_FAILED": "1"}
"""What the embedded engine's session must have in its environment."""
_SECONDS = 300


def archive_of(cache: Path, root: Path, stage: str) -> Path:
    """Return where the container of a stage that failed in this working tree lies, if it was kept."""
    return cache / "failed" / digest_of(str(root))[:16] / f"{stage}.tar"


def told(archive: Path) -> dict[str, str]:
    """Return what is known of a kept container: `run`, `command`; empty when there is none."""
    try:
        found: dict[str, str] = json.loads(archive.with_suffix(".json").read_text()) if archive.is_file() else {}
    except (OSError, ValueError):
        return {}
    return found


async def keep(client: dagger.Client, error: BaseException, archive: Path, *, run: str) -> bool:
    """Export the container that `error` speaks of; False when it speaks of none that can be had."""
    import anyio
    import dagger

    archive.unlink(missing_ok=True)
    container, command = _container(client, error)
    if container is None:
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_suffix(".part")
    try:
        with anyio.fail_after(_SECONDS):
            await (await _flattened(container)).export(str(part))
        part.replace(archive)
    except (dagger.DaggerError, OSError, TimeoutError):
        part.unlink(missing_ok=True)
        return False
    write_atomically(archive.with_suffix(".json"), json.dumps({"run": run, "command": command}).encode())
    return True


def _container(client: dagger.Client, error: BaseException) -> tuple[dagger.Container | None, str]:
    import dagger

    for cause in _causes(error):
        held = getattr(cause, "container", None)
        if held is not None:
            return held, ""
        if isinstance(cause, dagger.ExecError):
            identity = cause.error.extensions.get("container")
            command = " ".join(cause.command)
            return (client.load_container_from_id(dagger.ContainerID(identity)), command) if identity else (None, command)
    return None, ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what led to it."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    elif error.__cause__ is not None:
        yield from _causes(error.__cause__)


async def _flattened(container: dagger.Container) -> dagger.Container:
    """Put the content of mounts into the file system itself: an archive has no mounts."""
    import dagger

    for target in await container.mounts():
        held, below = container, container.without_mount(target)
        container = below
        for filled in (below.with_directory(target, held.directory(target)), below.with_file(target, held.file(target))):
            with suppress(dagger.QueryError):  # a directory is no file, a file no directory, and a cache or secret neither
                container = await filled.sync()
                break
    return container
