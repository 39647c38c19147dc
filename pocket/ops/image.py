"""Images in and out: unpacking the layers of an image into snapshots, and packing a container's layers into an image.

A layer that came from an image leaves as the very blob it came as; one that was made here is packed once and the blob
remembered. What identifies a layer is its content, so equal content gives one blob whatever its times were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocket.graph import ROOT, Input, Leaf, Op, Outputs, digest_of
from pocket.oci import archive, media
from pocket.oci.blobs import BlobDir, BlobSource
from pocket.oci.compress import Compression
from pocket.oci.config import Healthcheck as OciHealthcheck
from pocket.oci.config import ImageConfig
from pocket.oci.config import read as read_config
from pocket.oci.growing import Growing
from pocket.oci.image import Image as OciImage
from pocket.oci.image import from_layers
from pocket.oci.manifest import Descriptor
from pocket.oci.pack import pack_layer
from pocket.oci.unpack import unpack_layer
from pocket.ops.worth import LARGE, worth_compressing
from pocket.store import disk
from pocket.store.builder import publish
from pocket.store.index import Entry
from pocket.store.layer import Layer, Snapshot
from pocket.tree.view import View
from pocket.values import Container, Healthcheck, Image, Pair, Port, labels_of

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.store.store import Store

Ahead = Callable[[Growing], None]
COMPRESSIONS: dict[str, Compression] = {"GZIP": "gzip", "ZSTD": "zstd", "UNCOMPRESSED": "none", "ESTARGZ": "gzip"}


@dataclass(frozen=True, slots=True)
class Packed:
    """One layer as a blob of the store."""

    descriptor: Descriptor
    diff_id: str


# --- in ------------------------------------------------------------------------------------------------------------
def unpack_image(store: Store, image: OciImage) -> Snapshot:
    """Unpack the layers of an image, each once; blocking.

    Raises:
        LayerError, DigestError: a layer is hostile or not what the manifest says.
    """
    assert image.config is not None
    snapshot = Snapshot()
    for descriptor, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True):
        key = digest_of(["unpack", snapshot.key, diff_id])
        record = store.actions.get(key)
        layer = store.layer(record["layers"][ROOT][0]) if record else None
        if layer is None:
            layer = adopt_layer(store, image.blobs, descriptor, diff_id, snapshot)
            store.actions.put(key, {"layers": {ROOT: [layer.id]}})
        snapshot = Snapshot((*snapshot.layers, layer), digest_of(["stack", snapshot.key, layer.digest]))
    return snapshot


def adopt_layer(store: Store, blobs: BlobSource, descriptor: Descriptor, diff_id: str, below: Snapshot) -> Layer:
    """Unpack one layer on top of others and keep its blob; blocking.

    Raises:
        LayerError, DigestError: it is hostile, or not the one with that diff id.
    """
    view = View(below)

    def lower(path: str) -> tuple[Entry, Path] | None:
        node = view.get(path)
        return (node.entry, view.real(node)) if node is not None and node.layer is not None else None

    home = store.tmp()
    try:
        with blobs.open(descriptor.digest) as stream:
            chown = store.tier != "single-uid"
            unpacked = unpack_layer(stream, home / "fs", chown=chown, opaque_xattr=disk.OPAQUE[store.tier], lower=lower, expect=diff_id)
        layer = publish(store, home, unpacked.index)
    except BaseException:
        disk.remove_tree(home)
        raise
    with blobs.open(descriptor.digest) as stream:
        store.blobs.put_file(stream, expect=descriptor.digest, size=descriptor.size)
    kind = descriptor.media_type
    compression = "zstd" if "zstd" in kind else "gzip" if "gzip" in kind else "none"
    _remember(store, _pack_key(layer, compression, None), descriptor, diff_id)
    return layer


def settings_of(config: ImageConfig) -> Image:
    """Give what an image configuration says, as a container's settings."""
    pairs = (e.partition("=") for e in config.env)
    check = config.healthcheck
    return Image(
        env=tuple(Pair(name, value) for name, _, value in pairs), workdir=config.working_dir, user=config.user,
        entrypoint=config.entrypoint, cmd=config.cmd, labels=labels_of(config.labels),
        ports=tuple(_port(p) for p in config.exposed_ports), volumes=config.volumes, stop_signal=config.stop_signal,
        healthcheck=_healthcheck(check) if check else None, on_build=config.on_build, shell=config.shell,
    )  # fmt: skip


def _port(text: str) -> Port:
    number, _, protocol = text.partition("/")
    return Port(int(number), protocol.upper() or "TCP", None, from_image=True)


def _healthcheck(check: OciHealthcheck) -> Healthcheck:
    shell = check.test[:1] == ("CMD-SHELL",)
    args = check.test if check.test[:1] == ("NONE",) else check.test[1:]
    return Healthcheck(args, shell, check.interval, check.timeout, check.start_period, check.start_interval, check.retries)


# --- out -----------------------------------------------------------------------------------------------------------
def pack_container(store: Store, c: Container, snapshot: Snapshot, *, compression: Compression = "gzip", docker: bool = False,
                   force: bool = False, epoch: int | None = None, ahead: Ahead | None = None) -> OciImage:  # fmt: skip
    """Make the image of a container whose root file system is `snapshot`; blocking.

    A layer keeps the compression it came with, and a large one that does not shrink gets none, unless `force` is set; `epoch` is
    the latest time a file may have (seconds); `ahead` is given large layers when their packing begins.
    """
    packed = [_pack(store, layer, compression, force=force, epoch=epoch, docker=docker, ahead=ahead) for layer in snapshot.layers]
    layers = [
        Descriptor(media_type=_media(p.descriptor, docker=docker), digest=p.descriptor.digest, size=p.descriptor.size) for p in packed
    ]
    config = config_of(c, tuple(p.diff_id for p in packed))
    return from_layers(config, layers, store.blobs, annotations={p.name: p.value for p in c.annotations}, docker=docker)


def _media(descriptor: Descriptor, *, docker: bool) -> str:
    kind = descriptor.media_type
    compression = "zstd" if "zstd" in kind else "gzip" if "gzip" in kind else "none"
    return media.layer(compression, docker=docker)


def _pack(store: Store, layer: Layer, compression: Compression, *, force: bool, epoch: int | None, docker: bool = False,
          ahead: Ahead | None = None) -> Packed:  # fmt: skip
    if compression == "gzip" and not force and not docker and not worth_compressing(layer):
        compression = "none"
    came: list[Compression] = ["gzip", "none"] if docker else ["gzip", "zstd", "none"]  # Docker has no media type for zstd
    for choice in dict.fromkeys([compression] if force else [compression, *came]):
        for latest in {None, epoch} if epoch is not None else {None}:
            if (record := store.actions.get(_pack_key(layer, choice, latest))) and (
                (choice == compression and latest == epoch) or record.get("imported")
            ):
                return Packed(Descriptor(media_type=record["media"], digest=record["blobs"][0], size=record["size"]), record["diff_id"])
    temp = store.tmp() / "layer"
    with temp.open("wb", buffering=0) as out:
        growing = Growing(temp, out)
        if ahead is not None and layer.bytes >= LARGE:
            ahead(growing)
        try:
            packed = pack_layer(layer.index(), lambda path: layer.path / path, growing, compression=compression, latest=epoch)
            growing.end(packed.digest)
        finally:
            growing.fail()
    store.blobs.adopt(temp, packed.digest)
    disk.remove_tree(temp.parent)
    descriptor = Descriptor(media_type=media.layer(compression), digest=packed.digest, size=packed.size)
    _remember(store, _pack_key(layer, compression, epoch), descriptor, packed.diff_id, imported=False)
    return Packed(descriptor, packed.diff_id)


def pack_layer_blob(store: Store, layer: Layer) -> Packed:
    """Give a layer as a blob of the store, in whatever form there is one; blocking."""
    return _pack(store, layer, "gzip", force=False, epoch=None)


def _pack_key(layer: Layer, compression: str, epoch: int | None) -> str:
    return digest_of(["pack", layer.digest, compression, epoch])


def _remember(store: Store, key: str, descriptor: Descriptor, diff_id: str, *, imported: bool = True) -> None:
    record = {"blobs": [descriptor.digest], "media": descriptor.media_type, "size": descriptor.size, "diff_id": diff_id}
    store.actions.put(key, record | {"imported": imported})


def config_of(c: Container, diff_ids: tuple[str, ...]) -> ImageConfig:
    """Give the image configuration of a container."""
    image, (os_name, _, rest) = c.image, c.platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return ImageConfig(
        architecture=architecture, os=os_name, variant=variant, env=tuple(f"{p.name}={p.value}" for p in image.env),
        entrypoint=image.entrypoint, cmd=image.cmd, user=image.user, working_dir=image.workdir,
        labels={p.name: p.value for p in image.labels}, exposed_ports=tuple(f"{p.port}/{p.protocol.lower()}" for p in image.ports),
        volumes=image.volumes, stop_signal=image.stop_signal, on_build=image.on_build, shell=image.shell,
        healthcheck=_oci_healthcheck(image.healthcheck) if image.healthcheck else None, diff_ids=diff_ids,
    )  # fmt: skip


def _oci_healthcheck(h: Healthcheck) -> OciHealthcheck:
    test = h.args if h.args == ("NONE",) and not h.shell else ("CMD-SHELL" if h.shell else "CMD", *h.args)
    return OciHealthcheck(
        test=test, interval=h.interval, timeout=h.timeout, start_period=h.start_period, start_interval=h.start_interval, retries=h.retries,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tarball(Op):
    """The image archive of a container, as a directory with the one file `image.tar`."""

    kind = "tarball"
    containers: tuple[Container, ...]
    compression: Compression
    docker: bool
    force: bool

    def inputs(self) -> tuple[Input, ...]:
        """Name the root file systems."""
        return tuple(Input(c.rootfs) for c in self.containers)

    def args(self, engine: Engine) -> object:
        """Give the configurations and how they are written."""
        configs = [config_of(c, ()).to_bytes().decode() for c in self.containers]
        annotations = [[(p.name, p.value) for p in c.annotations] for c in self.containers]
        return [configs, annotations, self.compression, self.docker, self.force, engine.epoch]

    async def run(self, engine: Engine, inputs: tuple[Snapshot, ...], key: str) -> Outputs:
        """Pack the layers and write the archive."""
        return await engine.blocking(self._write, engine, inputs, key)

    def _write(self, engine: Engine, snapshots: tuple[Snapshot, ...], key: str) -> Outputs:
        images = [
            pack_container(
                engine.store, c, snapshot, compression=self.compression, docker=self.docker, force=self.force, epoch=engine.epoch
            )
            for c, snapshot in zip(self.containers, snapshots, strict=True)
        ]
        builder = engine.store.layer_builder()
        temp = engine.store.tmp() / "image.tar"
        archive.export(temp, images)
        with temp.open("rb") as f:
            builder.write("image.tar", f, Entry("f", 0o600))
        disk.remove_tree(temp.parent)
        return Outputs({ROOT: Snapshot((builder.finish(),), key)})


async def import_archive(engine: Engine, leaf: Leaf, tag: str) -> tuple[ImageConfig, Snapshot]:
    """Read an OCI or Docker archive that lies in a snapshot; each content once."""
    view = View(await engine.solver.snapshot(Input(leaf.ref)))
    node = view.file(leaf.path)
    key = digest_of(["import", node.entry.target, tag])
    if (found := known_image(engine.store, key)) is not None:
        return found
    return await engine.blocking(load_archive, engine.store, view.real(node), tag, key)


def load_archive(store: Store, path: Path, tag: str, key: str) -> tuple[ImageConfig, Snapshot]:
    """Read an archive of the host and unpack its layers; blocking."""
    blobs = BlobDir(store.tmp())
    try:
        image = archive.read(path, blobs, name=tag)
        return remember_image(store, image, key)
    finally:
        disk.remove_tree(blobs.root)


def remember_image(store: Store, image: OciImage, key: str) -> tuple[ImageConfig, Snapshot]:
    """Unpack an image and record under `key` what it is.

    Raises:
        ArchiveError: it is an artefact, not a container image.
    """
    if image.config is None:
        raise archive.ArchiveError("this is an artefact, not a container image", hint="name the image itself")
    snapshot = unpack_image(store, image)
    config = store.blobs.put_bytes(image.config_bytes)
    layers = {"layers": {ROOT: [la.id for la in snapshot.layers]}, "keys": {ROOT: snapshot.key}}
    store.actions.put(key, {**layers, "blobs": [config], "digest": image.digest})
    return image.config, snapshot


def known_image(store: Store, key: str) -> tuple[ImageConfig, Snapshot] | None:
    """Give an image that was recorded under `key`, when all of it is still there."""
    record = store.actions.get(key)
    if record is None:
        return None
    snapshot = store.snapshot(record["layers"][ROOT], record["keys"][ROOT])
    return None if snapshot is None else (read_config(store.blobs.read(record["blobs"][0])), snapshot)
