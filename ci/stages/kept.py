"""What outlives a run: archives of images and artefacts in the cache, and whether a remembered result still has what it names.

Looked at when nothing else runs, so it imports only what it must. The cache keeps the newest archives of all repositories; one that was
dropped makes its stage run again.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ci.config.model import Config


_KEPT = 40
_ABANDONED_SECONDS = 24 * 3600


def archive_path(cache: Path, digest: str) -> Path:
    """Return where the archive of an image or artefact lies in the cache."""
    return cache / "artifacts" / f"{digest.removeprefix('sha256:')}.tar"


@contextmanager
def incoming(cache: Path) -> Iterator[Path]:
    """Give a path beside the archives to write a new one to; what is left there at the end is removed."""
    directory = cache / "artifacts"
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f".{os.getpid()}-{os.urandom(4).hex()}.tar"
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def keep(cache: Path, part: Path, digest: str) -> None:
    """Move a complete archive to its place, and drop the oldest ones beyond `_KEPT` and what killed runs left behind."""
    os.utime(part)
    part.replace(archive_path(cache, digest))
    dated = []
    for path in (cache / "artifacts").glob("*.tar"):
        with suppress(FileNotFoundError):  # another run tidies up as well
            dated.append((path.stat().st_mtime, path))
    finished = sorted((entry for entry in dated if not entry[1].name.startswith(".")), reverse=True)
    abandoned = [entry for entry in dated if entry[1].name.startswith(".") and entry[0] < time.time() - _ABANDONED_SECONDS]
    for _, path in finished[_KEPT:] + abandoned:
        path.unlink(missing_ok=True)


def archives(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the archive that a result stands for."""
    return (result["digest"],)


def bring(cache: Path, digest: str, fetch: Callable[[str, Path], bool]) -> bool:
    """Make sure that an archive is in the cache: `fetch(digest, path)` writes one that is not; False when it cannot be had."""
    if archive_path(cache, digest).is_file():
        return True
    with incoming(cache) as part:
        if not fetch(digest, part):
            return False
        keep(cache, part, digest)
    return True


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
        missing = _missing_in_layout(root / config.push.layout, wanted)
        return f"{config.push.layout} {missing}" if missing else ""
    from ci.stages.registry import missing_in_registry

    return missing_in_registry(config.push, wanted)


def _missing_in_layout(layout: Path, wanted: Mapping[str, str]) -> str:
    try:
        index = json.loads((layout / "index.json").read_bytes())
        held = {(entry["digest"], entry.get("annotations", {}).get("org.opencontainers.image.ref.name")) for entry in index["manifests"]}
        for digest, tag in wanted.items():
            if (digest, tag) not in held:
                return f"no longer holds {digest[:19]}… as {tag}"
            manifest = json.loads(_blob(layout, digest).read_bytes())
            for part in (manifest["config"], *manifest["layers"]):
                if _blob(layout, part["digest"]).stat().st_size != part["size"]:
                    return f"holds a damaged blob {part['digest'][:19]}…"
    except (OSError, ValueError, KeyError):
        return "no longer holds what was pushed"
    return ""


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")
