"""Says why a remembered result cannot be reused: what it names is gone. Called when nothing else runs, so it imports only what it must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ci.config.model import Config


def archive_path(cache: Path, digest: str) -> Path:
    """Return where the archive of an image or artefact lies in the cache."""
    return cache / "artifacts" / f"{digest.removeprefix('sha256:')}.tar"


def image_gone(result: Mapping[str, Any], _config: Config, _root: Path, cache: Path) -> str:
    """Say why the built image cannot be used again."""
    return "" if archive_path(cache, result["digest"]).is_file() else "its image is no longer in the cache"


def artefact_gone(result: Mapping[str, Any], _config: Config, _root: Path, cache: Path) -> str:
    """Say why the packed artefact cannot be used again."""
    return "" if archive_path(cache, result["digest"]).is_file() else "its artefact is no longer in the cache"


def pushed_gone(result: Mapping[str, Any], config: Config, root: Path, _cache: Path) -> str:
    """Say why a push must be repeated: the target does not hold what was pushed."""
    wanted = {result["image"]: result["image_tag"], result["artefact"]: result["artefact_tag"]}
    if config.push.target is None:
        return _missing_in_layout(root / config.push.layout, wanted)
    from ci.stages.registry import missing_in_registry

    return missing_in_registry(config.push, wanted)


def _missing_in_layout(layout: Path, wanted: Mapping[str, str]) -> str:
    try:
        index = json.loads((layout / "index.json").read_bytes())
        held = {(entry["digest"], entry.get("annotations", {}).get("org.opencontainers.image.ref.name")) for entry in index["manifests"]}
        for digest, tag in wanted.items():
            if (digest, tag) not in held:
                return f"{layout.name} no longer holds {digest[:19]}… as {tag}"
            manifest = json.loads(_blob(layout, digest).read_bytes())
            for part in (manifest["config"], *manifest["layers"]):
                if _blob(layout, part["digest"]).stat().st_size != part["size"]:
                    return f"{layout.name} holds a damaged blob {part['digest'][:19]}…"
    except (OSError, ValueError, KeyError):
        return f"{layout.name} no longer holds what was pushed"
    return ""


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")
