"""`Container` fields about images: where they come from and where they go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pocket.api.core import leaf_of
from pocket.api.registry import field
from pocket.errors import PocketError
from pocket.graph import Input, Leaf, Node, Ref
from pocket.oci import archive
from pocket.ops.given import given
from pocket.ops.image import COMPRESSIONS, Tarball, import_archive, pack_container, settings_of
from pocket.ops.registry import publish_image, pull_image
from pocket.values import Container, Port, put

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.oci.compress import Compression
    from pocket.oci.config import ImageConfig
    from pocket.oci.image import Image as OciImage
    from pocket.query import Obj


def _merged(c: Container, config: ImageConfig, rootfs: Ref, image_ref: str = "") -> Container:
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


@field("Container", "from")
async def from_(e: Engine, c: Container, address: str) -> Container:
    with e.trace("Container.from", {"address": address}):
        config, snapshot, reference = await pull_image(e, address)
    return _merged(c, config, given(snapshot), reference)


@field("Container", "import")
async def import_(e: Engine, c: Container, source: Obj, tag: str) -> Container:
    with e.trace("Container.import", {}):
        config, snapshot = await import_archive(e, leaf_of(source), tag)
    return _merged(c, config, given(snapshot))


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


def _tarball(c: Container, variants: list[Obj], forced: str | None, media_types: str) -> Leaf:
    if variants:
        raise PocketError("not supported by pocket: platformVariants — use a Dagger engine")
    op = Tarball(container=c, compression=_compression(forced), docker=media_types.upper().startswith("DOCKER"), force=forced is not None)
    return Leaf(Ref(Node(op, name="Container.asTarball")), "image.tar")


def _compression(forced: str | None) -> Compression:
    return COMPRESSIONS.get((forced or "gzip").upper(), "gzip")


@field("Container", "asTarball")
def as_tarball(_: Engine, c: Container, platform_variants: list[Obj], media_types: str, forced_compression: str | None = None) -> Leaf:
    return _tarball(c, platform_variants, forced_compression, media_types)


async def _image(e: Engine, c: Container, forced: str | None, media_types: str) -> OciImage:
    snapshot = await e.solver.snapshot(Input(c.rootfs))
    docker = media_types.upper().startswith("DOCKER")
    return await e.blocking(
        pack_container, e.store, c, snapshot, compression=_compression(forced), docker=docker, force=forced is not None, epoch=e.epoch
    )


@field("Container", "export", pure=False)
async def export(
    e: Engine, c: Container, path: str, platform_variants: list[Obj], media_types: str, expand: bool, forced_compression: str | None = None
) -> str:
    if platform_variants:
        raise PocketError("not supported by pocket: platformVariants — use a Dagger engine")
    dest: Path = e.host_path(c.expand(path) if expand else path)
    image = await _image(e, c, forced_compression, media_types)
    dest.parent.mkdir(parents=True, exist_ok=True)
    with e.trace("Container.export", {"path": path}):
        await e.blocking(archive.export, dest, [image])
    return str(dest)


@field("Container", "publish", pure=False)
async def publish(
    e: Engine, c: Container, address: str, platform_variants: list[Obj], media_types: str, forced_compression: str | None = None
) -> str:
    if platform_variants:
        raise PocketError("not supported by pocket: platformVariants — use a Dagger engine")
    image = await _image(e, c, forced_compression, media_types)
    with e.trace("Container.publish", {"address": address}):
        return await publish_image(e, image, address)
