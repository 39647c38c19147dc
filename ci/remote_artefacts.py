"""How the remote store looks in a registry: three kinds of artefacts in one repository, each under a tag made from what it is.

* `memo-<hex>`: a remembered result (`application/vnd.weighbridge.memo.v1+json` as configuration), its files as layers.
* `image-<hex>`: an image or model artefact that a stage left in the cache, as it is, so that layers are shared between commits.
* `run-<id>-<hex>`: the record of a run (`application/vnd.weighbridge.run.v1+json`), a layer for each of its files.

Nothing is ever read, changed and written back: equal tags mean equal content, so any number of runners may write at once. Everything that
comes in is verified by digest, and a memo entry also by the key that its inputs have.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.files import digest_of
from ci.hydrate import dehydrate, hydrate
from ci.memo import Entry
from pocket.oci import archive
from pocket.oci.blobs import BlobDir
from pocket.oci.client import Client, RegistryError
from pocket.oci.errors import PocketError
from pocket.oci.image import artifact
from pocket.oci.manifest import Descriptor, Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pocket.oci.reference import Reference

MEMO = "application/vnd.weighbridge.memo.v1+json"
RUN = "application/vnd.weighbridge.run.v1+json"
_TITLE = "org.opencontainers.image.title"
_DURATIONS = "weighbridge.durations"
_TYPES = {
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".txt": "text/plain",
    ".xml": "application/xml",
}
_LARGEST = 64 << 20  # bytes of a record's file; anything larger is no record


class Unusable(PocketError):
    """What lies under a tag is not what was written there, or was written by another version; the rest of the store may be fine."""


def memo_tag(stage: str, key: str) -> str:
    """Return the tag of a stage's result under a key."""
    return f"memo-{digest_of([stage, key])}"


def image_tag(digest: str) -> str:
    """Return the tag of an image or artefact."""
    return f"image-{digest.removeprefix('sha256:')}"


async def put_entry(client: Client, place: Reference, entry: Entry, files: Mapping[str, Path], scratch: Path) -> None:
    """Write a remembered result; `files` are where its files are."""
    blobs = BlobDir(scratch)
    layers = [_file(blobs, name, files[name]) for name in sorted(entry.artifacts)]
    made = artifact(MEMO, layers, blobs, config_type=MEMO, config_bytes=_json(dehydrate(entry)))
    await client.push(place.with_tag(memo_tag(entry.stage, entry.key)), made)


async def get_entry(client: Client, place: Reference, stage: str, key: str, scratch: Path) -> tuple[Entry, Mapping[str, Path]] | None:
    """Return a remembered result and where its files are; None when there is none under this key.

    Raises:
        RegistryError: the registry does not answer.
        Unusable: what it gives is something else.

    """
    blobs, tag = BlobDir(scratch), place.with_tag(memo_tag(stage, key))
    manifest = await _manifest(client, tag, MEMO)
    if manifest is None:
        return None
    await client.fetch(tag, manifest.config, blobs)
    try:
        entry = hydrate(Entry, json.loads(blobs.read(manifest.config.digest)))
        if (entry.stage, entry.key, entry.inputs.key()) != (stage, key, key):
            raise ValueError("it is the result of another key")
        held = {layer.annotations.get(_TITLE, ""): layer for layer in manifest.layers}
        wanted = {name: held[name] for name, digest in entry.artifacts.items() if held[name].digest == f"sha256:{digest}"}
        if wanted.keys() != entry.artifacts.keys():
            raise ValueError("its files are not those of the result")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unusable(f"{tag} is no result of this version: {error}") from error
    for layer in wanted.values():
        await client.fetch(tag, layer, blobs)
    return entry, {name: blobs.path(layer.digest) for name, layer in wanted.items()}


async def put_image(client: Client, place: Reference, digest: str, path: Path, scratch: Path) -> None:
    """Write an image or artefact from its archive, unless it is there."""
    tag = place.with_tag(image_tag(digest))
    if await client.exists(tag) == digest:
        return
    image = archive.read(path, BlobDir(scratch))
    if image.digest != digest:
        raise PocketError(f"{path.name} holds {image.digest}")
    await client.push(tag, image)


async def has_image(client: Client, place: Reference, digest: str) -> bool:
    """Tell whether an image or artefact is there."""
    return await client.exists(place.with_tag(image_tag(digest))) == digest


async def get_image(client: Client, place: Reference, digest: str, target: Path, scratch: Path) -> None:
    """Write an image or artefact as an archive to `target`."""
    image = await client.pull(replace(place, tag=None, digest=digest), BlobDir(scratch))
    archive.export(target, [image])


async def put_run(client: Client, place: Reference, directory: Path, scratch: Path) -> None:
    """Write a run's record."""
    blobs, record = BlobDir(scratch), (directory / "run.json").read_bytes()
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "run.json"]
    layers = [_file(blobs, str(path.relative_to(directory)), path) for path in paths if path.stat().st_size <= _LARGEST]
    ran = {stage["name"]: stage["seconds"] for stage in json.loads(record)["stages"] if stage["status"] == "passed"}
    made = artifact(RUN, layers, blobs, config_type=RUN, config_bytes=record, annotations={_DURATIONS: json.dumps(ran, sort_keys=True)})
    # Two machines may give two runs of one commit and second the same name.
    await client.push(place.with_tag(f"run-{directory.name}-{made.digest.removeprefix('sha256:')[:8]}"), made)


async def run_tags(client: Client, place: Reference) -> list[str]:
    """Return the tags of runs, the newest first."""
    return sorted((tag for tag in await client.tags(place) if tag.startswith("run-")), reverse=True)


async def get_run(client: Client, place: Reference, tag: str, target: Path, scratch: Path) -> None:
    """Write a run's record into the new directory `target`, run.json last."""
    blobs, reference = BlobDir(scratch), place.with_tag(tag)
    manifest = await _manifest(client, reference, RUN)
    if manifest is None:
        raise RegistryError(f"{reference} is gone", status=404)
    for layer in (*manifest.layers, manifest.config):
        name = layer.annotations.get(_TITLE, "run.json")
        path = target / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise Unusable(f"{reference} names a file outside of its record: {name}")
        await client.fetch(reference, layer, blobs)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blobs.read(layer.digest))


async def durations(client: Client, place: Reference, count: int) -> dict[str, float]:
    """Return stage → seconds of the last time that it worked, from the last `count` runs."""
    found: dict[str, float] = {}
    for tag in (await run_tags(client, place))[:count]:
        manifest = await _manifest(client, place.with_tag(tag), RUN)
        told: Any = json.loads(manifest.annotations.get(_DURATIONS, "{}")) if manifest else {}
        for name, seconds in told.items():
            found.setdefault(str(name), float(seconds))
    return found


async def _manifest(client: Client, reference: Reference, kind: str) -> Manifest | None:
    if await client.exists(reference) is None:
        return None
    document = (await client.resolve(reference)).document
    if not isinstance(document, Manifest) or document.artifact_type != kind:
        raise Unusable(f"{reference} is not what the store writes", hint="use a repository for nothing else")
    return document


def _file(blobs: BlobDir, name: str, path: Path) -> Descriptor:
    with path.open("rb", buffering=0) as file:
        digest = blobs.put(file)
    annotations = {_TITLE: name}
    size = blobs.path(digest).stat().st_size
    kind = _TYPES.get(Path(name).suffix, "application/octet-stream")
    return Descriptor(media_type=kind, digest=digest, size=size, annotations=annotations)


def _json(value: Sequence[Any] | Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False).encode(errors="surrogateescape")
