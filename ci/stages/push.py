"""push: image and artefact to the configured registry, or to an OCI layout directory; both arrive as the very bytes that were built."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ci.stage import Context, InfraError, StageResult
from ci.stages.kept import archive_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result(StageResult):
    """Where image and artefact are, and under which digests."""

    target: str
    image: str
    image_tag: str
    artefact: str
    artefact_tag: str


async def run(ctx: Context, needs: Mapping[str, Any]) -> Result:
    """Push both; what the target already holds is not sent again."""
    push = ctx.config.push
    tag = push.tag or "latest"
    wanted = {needs["build"].digest: tag, needs["package"].digest: f"{tag}-model"}
    ctx.progress(f"→ {push.target or push.layout}")
    if push.target is None:
        await asyncio.to_thread(_to_layout, ctx.cache, ctx.root / push.layout, wanted)
    else:
        from ci.stages.registry import to_registry

        await to_registry(ctx.cache, push, wanted, tell=ctx.repeats)
    image, artefact = wanted
    said = f"image {image[:19]}… · model {artefact[:19]}… → {push.target or push.layout}"
    return Result(said, push.target or push.layout, image, wanted[image], artefact, wanted[artefact])


def _to_layout(cache: Path, target: Path, wanted: Mapping[str, str]) -> None:
    from pocket.oci import archive
    from pocket.oci.errors import PocketError
    from pocket.oci.layout import Layout

    try:
        for digest, tag in wanted.items():
            layout = Layout(target)
            # The layout's own blob directory takes the blobs; the name is entered last.
            stored = archive.read(archive_path(cache, digest), layout.blobs)
            if stored.digest != digest:
                raise InfraError(f"{archive_path(cache, digest).name} holds {stored.digest}", hint="remove it and run again", lasting=True)
            layout.put(stored, tag)
    except (PocketError, OSError) as error:
        raise InfraError(f"cannot write the OCI layout {target}: {error}", hint="is the directory writable, and is there space?") from error
