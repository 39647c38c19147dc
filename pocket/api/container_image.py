"""`Container` fields about images: where they come from and where they go."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket.api.core import leaf_of
from pocket.api.registry import field
from pocket.errors import PocketError
from pocket.graph import Input, Leaf, Node, Ref
from pocket.oci import archive
from pocket.ops.edit import SCRATCH_REF
from pocket.ops.given import given
from pocket.ops.image import COMPRESSIONS, Ahead, Tarball, import_archive, pack_container, settings_of
from pocket.ops.publish import publishing
from pocket.ops.registry import pull_image
from pocket.values import Container, Port, put

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.oci.compress import Compression
    from pocket.oci.config import ImageConfig
    from pocket.oci.image import Image as OciImage
    from pocket.query import Obj


def _merged(c: Container, config: ImageConfig, rootfs: Ref, image_ref: str) -> Container:
    """Give a container on an image's root file system: mounts and own settings stay, the image's settings are merged in."""
    found = settings_of(config)
    env, labels = found.env, found.labels
    for pair in c.image.env:
        env = put(env, pair.name, pair.value)
    for pair in c.image.labels:
        labels = put(labels, pair.name, pair.value)
    ports: tuple[Port, ...] = (*found.ports, *c.image.ports)
    image = replace(found, env=env, labels=labels, ports=ports)
    return replace(c, rootfs=rootfs, image=image, image_ref=image_ref, last_exec=None, default_args_set=False)


def _no_service(registry: object) -> None:
    if registry is not None:
        raise PocketError("not supported by pocket: registryService — use a Dagger engine")


@field("Container", "from")
async def from_(e: Engine, c: Container, address: str, registry_service: Obj | None = None) -> Container:
    _no_service(registry_service)
    with e.trace("Container.from", {"address": address}):
        config, snapshot, reference = await pull_image(e, address, c.platform)
    return _merged(c, config, given(snapshot), reference)


@field("Container", "import")
async def import_(e: Engine, c: Container, source: Obj, tag: str) -> Container:
    with e.trace("Container.import", {}):
        config, snapshot = await import_archive(e, leaf_of(source), tag)
    settings = settings_of(config)  # those of before are gone
    return replace(c, rootfs=given(snapshot), image=settings, image_ref="", last_exec=None, default_args_set=False)


@field("Container", "withRegistryAuth")
def with_registry_auth(e: Engine, c: Container, address: str, username: str, secret: Obj) -> Container:
    e.registry_auth[_host(address)] = (username, e.secrets.value(secret.state))
    return c


@field("Container", "withoutRegistryAuth")
def without_registry_auth(e: Engine, c: Container, address: str) -> Container:
    e.registry_auth.pop(_host(address), None)
    return c


def _host(address: str) -> str:
    bare = address.partition("://")[2] or address
    host = bare.partition("/")[0]
    return host if "." in host or ":" in host or host == "localhost" else "docker.io"


def _variants(c: Container, others: list[Obj]) -> tuple[Container, ...]:
    """Give the containers of an image, one per platform; one that never got a file system does not count.

    Raises:
        PocketError: none is left.
    """
    found = tuple(one for one in (c, *(o.state for o in others)) if one.rootfs is not SCRATCH_REF)
    if not found:
        raise PocketError("no containers to export")
    return found


def _compression(forced: str | None) -> Compression:
    return COMPRESSIONS.get((forced or "gzip").upper(), "gzip")


def _is_docker(media_types: str) -> bool:
    return media_types.upper().startswith("DOCKER")


@field("Container", "asTarball")
def as_tarball(_: Engine, c: Container, platform_variants: list[Obj], media_types: str, forced_compression: str | None = None) -> Leaf:
    op = Tarball(
        containers=_variants(c, platform_variants), compression=_compression(forced_compression), docker=_is_docker(media_types),
        force=forced_compression is not None,
    )  # fmt: skip
    return Leaf(Ref(Node(op, name="Container.asTarball")), "image.tar")


async def _images(
    e: Engine, containers: tuple[Container, ...], forced: str | None, media_types: str, ahead: Ahead | None = None
) -> list[OciImage]:
    images = []
    for c in containers:
        snapshot = await e.solver.snapshot(Input(c.rootfs))
        options: dict[str, Any] = {"docker": _is_docker(media_types), "force": forced is not None, "epoch": e.epoch, "ahead": ahead}
        images.append(await e.blocking(partial(pack_container, e.store, c, snapshot, compression=_compression(forced), **options)))
    return images


@field("Container", "export", pure=False)
async def export(
    e: Engine, c: Container, path: str, platform_variants: list[Obj], media_types: str, expand: bool, forced_compression: str | None = None
) -> str:
    dest: Path = e.host_path(c.expand(path) if expand else path)
    images = await _images(e, _variants(c, platform_variants), forced_compression, media_types)
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with e.trace("Container.export", {"path": path}):
            await e.blocking(archive.export, dest, images)
    except OSError as error:
        raise PocketError(f"cannot export to {dest}: {error.strerror}") from error
    return str(dest)


@field("Container", "publish", pure=False)
async def publish(
    e: Engine,
    c: Container,
    address: str,
    platform_variants: list[Obj],
    media_types: str,
    forced_compression: str | None = None,
    registry_service: Obj | None = None,
) -> str:
    _no_service(registry_service)
    with e.trace("Container.publish", {"address": address}):
        async with publishing(e, address) as under_way:
            images = await _images(e, _variants(c, platform_variants), forced_compression, media_types, under_way.ahead)
            return await under_way.finish(images)
