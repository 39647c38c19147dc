"""An image: its manifest, its configuration and where its blobs are; built from layers or read from blobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pocket.oci import config as cfg
from pocket.oci import digest as dg
from pocket.oci import manifest as mf
from pocket.oci import media
from pocket.oci.blobs import BlobDir, BlobSource
from pocket.oci.config import ImageConfig
from pocket.oci.manifest import Descriptor, Manifest, ManifestError, ManifestIndex, Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A manifest as the bytes that its digest is over, the configuration, and the source of the blobs.

    For an artefact that is no container image, `config` is None.
    """

    manifest: Manifest
    manifest_bytes: bytes = field(repr=False)
    config: ImageConfig | None
    config_bytes: bytes = field(repr=False)
    blobs: BlobSource = field(repr=False)

    @property
    def digest(self) -> str:
        """The digest of the manifest, by which a registry knows the image."""
        return dg.of_bytes(self.manifest_bytes)

    @property
    def descriptor(self) -> Descriptor:
        """What an index says about this image."""
        return Descriptor(
            media_type=self.manifest.media_type,
            digest=self.digest,
            size=len(self.manifest_bytes),
            platform=self.config.platform if self.config else None,
            artifact_type=self.manifest.artifact_type,
        )


def from_layers(
    config: ImageConfig,
    layers: Sequence[Descriptor],
    blobs: BlobSource,
    *,
    annotations: Mapping[str, str] | None = None,
    docker: bool = False,
) -> Image:
    """Put an image together from a configuration (with its diff ids) and the descriptors of the layers, bottom first."""
    if len(config.diff_ids) != len(layers):
        raise ManifestError(f"an image has {len(layers)} layers and {len(config.diff_ids)} diff ids")
    config_bytes = config.to_bytes()
    described = Descriptor(
        media_type=media.DOCKER_CONFIG if docker else media.OCI_CONFIG, digest=dg.of_bytes(config_bytes), size=len(config_bytes)
    )
    manifest = Manifest(
        config=described,
        layers=tuple(layers),
        media_type=media.DOCKER_MANIFEST if docker else media.OCI_MANIFEST,
        annotations=dict(annotations or {}),
    )
    return Image(manifest=manifest, manifest_bytes=manifest.to_bytes(), config=config, config_bytes=config_bytes, blobs=blobs)


def artifact(
    artifact_type: str,
    layers: Sequence[Descriptor],
    blobs: BlobSource,
    *,
    config_type: str = media.OCI_EMPTY,
    config_bytes: bytes = b"{}",
    annotations: Mapping[str, str] | None = None,
    subject: Descriptor | None = None,
) -> Image:
    """Put an artefact together (OCI 1.1): any layers, and with `subject` a referrer of another manifest."""
    described = Descriptor(media_type=config_type, digest=dg.of_bytes(config_bytes), size=len(config_bytes))
    if subject:
        subject = replace(subject, annotations={}, platform=None, artifact_type="")
    manifest = Manifest(
        config=described, layers=tuple(layers), artifact_type=artifact_type, annotations=dict(annotations or {}), subject=subject
    )
    return Image(manifest=manifest, manifest_bytes=manifest.to_bytes(), config=None, config_bytes=config_bytes, blobs=blobs)


def describe_file(path: Path, media_type: str, *, annotations: Mapping[str, str] | None = None) -> Descriptor:
    """Hash a file and return its descriptor; for layers of artefacts that are files as they are."""
    return Descriptor(media_type=media_type, digest=dg.of_file(path), size=path.stat().st_size, annotations=dict(annotations or {}))


def index_of(images: Sequence[Image], *, annotations: Mapping[str, str] | None = None, docker: bool = False) -> ManifestIndex:
    """Return the index of a multi-platform image."""
    return ManifestIndex(
        manifests=tuple(i.descriptor for i in images),
        media_type=media.DOCKER_INDEX if docker else media.OCI_INDEX,
        annotations=dict(annotations or {}),
    )


def load(blobs: BlobDir, descriptor: Descriptor, *, platform: Platform | None = None) -> Image:
    """Read an image whose manifest, index and configuration lie in `blobs`; an index is resolved for the platform."""
    for _ in range(4):
        data = blobs.read(descriptor.digest)
        found = mf.read(data, descriptor.media_type)
        if isinstance(found, Manifest):
            return assemble(found, data, blobs.read(found.config.digest), blobs)
        descriptor = found.select(platform or Platform.local())
    raise ManifestError("indexes are nested too deeply")


def assemble(manifest: Manifest, manifest_bytes: bytes, config_bytes: bytes, blobs: BlobSource) -> Image:
    """Join a manifest and its configuration; checks that they agree about the layers."""
    config: ImageConfig | None = None
    if manifest.config.media_type in (media.OCI_CONFIG, media.DOCKER_CONFIG) and not manifest.artifact_type:
        config = cfg.read(config_bytes)
        if len(config.diff_ids) != len(manifest.layers):
            raise ManifestError(f"an image has {len(manifest.layers)} layers and {len(config.diff_ids)} diff ids")
    return Image(manifest=manifest, manifest_bytes=manifest_bytes, config=config, config_bytes=config_bytes, blobs=blobs)
