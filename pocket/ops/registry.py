"""Images from and to registries, and the local archives that may stand in for them.

`POCKET_IMAGE_ARCHIVES` maps references to archives of this machine: `alpine:3.20.2=/path/alpine.tar`, several separated by
commas. A reference named there is never looked up in a registry. A reference with a digest that the cache holds needs no network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocket.errors import PocketError
from pocket.graph import digest_of
from pocket.oci.blobs import BlobDir
from pocket.oci.manifest import Platform
from pocket.oci.reference import parse
from pocket.ops.image import known_image, load_archive, remember_image
from pocket.ops.places import note_places
from pocket.store import disk

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.oci.client import Client
    from pocket.oci.config import ImageConfig
    from pocket.oci.reference import Reference
    from pocket.store.layer import Snapshot

ARCHIVES = "POCKET_IMAGE_ARCHIVES"


def client_of(engine: Engine) -> Client:
    """Give a registry client with the session's logins."""
    engine.need_network("an image of a registry")
    from pocket.oci.client import Client
    from pocket.oci.credentials import Credentials

    given = {host: Credentials(username=user, password=secret.decode()) for host, (user, secret) in engine.registry_auth.items()}
    return Client(credentials=given, environ=engine.environ)


def stand_ins(engine: Engine) -> dict[str, Path]:
    """Give the archives that stand in for references, by their full form.

    Raises:
        PocketError: the variable is not of the form reference=path[,reference=path].
    """
    found = {}
    for item in filter(None, engine.environ.get(ARCHIVES, "").split(",")):
        reference, equals, path = item.strip().partition("=")
        if not equals or not path:
            raise PocketError(f"{ARCHIVES}: {item!r} is not reference=path", hint="for example alpine:3.20.2=/images/alpine.tar")
        found[str(parse(reference))] = Path(path)
    return found


async def pull_image(engine: Engine, address: str, platform: str) -> tuple[ImageConfig, Snapshot, str]:
    """Give an image's configuration and file system, and its reference with the digest.

    Raises:
        PocketError: the reference is malformed, or the registry does not give the image.
    """
    reference = parse(address)
    if (archive := stand_ins(engine).get(str(reference))) is not None:
        return await _from_archive(engine, reference, archive)
    if reference.digest and (known := known_image(engine.store, _key(reference.digest, platform))):
        return (*known, str(reference))
    async with client_of(engine) as client:
        resolved = await client.resolve(reference)
        key = _key(resolved.digest, platform)
        known = known_image(engine.store, key)
        if known is None:
            known = await _fetch(engine, client, resolved.reference, platform, key)
    return (*known, str(resolved.reference))


async def _fetch(engine: Engine, client: Client, reference: Reference, platform: str, key: str) -> tuple[ImageConfig, Snapshot]:
    blobs = BlobDir(engine.store.tmp())
    try:
        async with engine.store.key_lock(key):
            image = await client.pull(reference, blobs, platform=Platform.parse(platform))
            found = await engine.blocking(remember_image, engine.store, image, key)
            note_places(engine.store, reference, [image])
            return found
    finally:
        await engine.blocking(disk.remove_tree, blobs.root)


async def _from_archive(engine: Engine, reference: Reference, path: Path) -> tuple[ImageConfig, Snapshot, str]:
    try:
        config, snapshot, digest = await open_archive(engine, path)
    except OSError as e:
        raise PocketError(f"{ARCHIVES}: cannot read {path} for {reference}: {e.strerror}", hint="correct the path, or leave it out") from e
    return config, snapshot, str(reference.with_digest(digest)) if digest else str(reference)


async def open_archive(engine: Engine, path: Path) -> tuple[ImageConfig, Snapshot, str]:
    """Give the configuration, file system and digest of the image in an archive of this machine, which is unpacked once.

    Raises:
        OSError: it cannot be read.
        PocketError: it holds no image.
    """
    found = path.stat()
    key = digest_of(["stand-in", str(path), found.st_size, found.st_mtime_ns, found.st_ino])
    known = known_image(engine.store, key)
    if known is None:
        known = await engine.blocking(load_archive, engine.store, path, "", key)
    record = engine.store.actions.get(key)
    return (*known, record["digest"] if record else "")


def _key(digest: str, platform: str) -> str:
    return digest_of(["image", digest, platform])
