"""Images as one tar file: OCI layouts (written and read) and `docker save` archives (read).

What is written also holds `manifest.json`, so that `docker load` takes it when it has one platform, and depends on the images
and names alone. Reading is one pass that moves every blob, verified, into a `BlobDir`; compressed archives are read as well.
"""

import os
import posixpath
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from pocket.errors import PocketError
from pocket.oci import config as cfg
from pocket.oci import digest as dg
from pocket.oci import manifest as mf
from pocket.oci import media, reference
from pocket.oci import tarwrite as tw
from pocket.oci.blobs import BLOCK, BlobDir
from pocket.oci.image import Image, from_layers, index_of, load
from pocket.oci.layout import CONTAINERD_NAME, VERSION, choose
from pocket.oci.manifest import REF_NAME, Descriptor, ManifestIndex, Platform
from pocket.oci.tarheader import LayerError, Limits, Member
from pocket.oci.tarread import TarReader

_SMALL = 8 << 20  # bytes; an index or manifest larger than this is none
_MEMBERS = 100_000
_USELESS = ("VERSION", "json", "repositories")  # in each directory of an old `docker save`


class ArchiveError(PocketError):
    """A file that holds no image, or not the one asked for."""


def export(path: Path, images: Sequence[Image], *, name: str = "") -> None:
    """Write an archive to a file of mode 0600, which appears only when it is complete."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mkstemp gives 0600
    try:
        with os.fdopen(fd, "wb", buffering=BLOCK) as out:
            write(out, images, name=name)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write(out: BinaryIO, images: Sequence[Image], *, name: str = "") -> None:
    """Write one image, or several as one multi-platform image. `name` is a reference such as `app:1.0`."""
    if not images:
        raise ArchiveError("there is no image to write")
    blobs: dict[str, tuple[Descriptor, Image | bytes]] = {}
    for image in images:
        m = image.manifest
        blobs.update((d.digest, (d, image)) for d in m.layers)
        blobs[m.config.digest] = (m.config, image.config_bytes)
        blobs[image.digest] = (image.descriptor, image.manifest_bytes)
    top = images[0].descriptor
    if len(images) > 1:
        index = index_of(images, docker=images[0].manifest.media_type == media.DOCKER_MANIFEST)
        data = index.to_bytes()
        top = Descriptor(media_type=index.media_type, digest=dg.of_bytes(data), size=len(data))
        blobs[top.digest] = (top, data)
    out.writelines(tw.header(d, kind=tw.DIRECTORY, mode=0o755) for d in (b"blobs/", b"blobs/sha256/"))
    for digest in sorted(blobs):
        _blob(out, *blobs[digest])
    notes = _names(name)
    _file(out, "index.json", ManifestIndex(manifests=(replace(top, annotations=notes),)).to_bytes())
    if len(images) == 1:
        _file(out, "manifest.json", _docker_manifest(images[0], notes.get(CONTAINERD_NAME, "")))
    _file(out, "oci-layout", VERSION)
    out.write(tw.END)


def _contents(source: BinaryIO, blobs: BlobDir) -> tuple[dict[str, bytes], dict[str, Descriptor], dict[str, str]]:
    """Read an archive once: its documents, its other files (put into `blobs`), its links."""
    documents: dict[str, bytes] = {}
    files: dict[str, Descriptor] = {}
    links: dict[str, str] = {}
    with TarReader(source, Limits(members=_MEMBERS)) as tar:
        for member in tar:
            path = posixpath.normpath(member.name).lstrip("/")
            if member.kind in "12":
                base = posixpath.dirname(path) if member.kind == "2" else ""
                links[path] = posixpath.normpath(posixpath.join(base, member.link))
            elif member.kind == "0" and path in ("index.json", "manifest.json", "oci-layout"):
                documents[path] = _small(tar, member)
            elif member.kind == "0" and posixpath.basename(path) not in _USELESS:
                files[path] = _take(tar, member, path, blobs)
    return documents, files, links


def read(source: Path | BinaryIO, blobs: BlobDir, *, name: str = "", platform: Platform | None = None) -> Image:
    """Read an image out of an archive. `name` is a reference or tag when the archive holds several images.

    Raises ArchiveError, LayoutError, ManifestError or DigestError.
    """
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as f:
            return read(f, blobs, name=name, platform=platform)
    try:
        documents, files, links = _contents(source, blobs)
    except LayerError as e:  # the same reader, which knows layers only
        words = "this is no image archive, or a damaged one"
        raise ArchiveError(f"{words}: {e}", hint="give an OCI archive or the output of docker save, and check that it is whole") from e
    if "index.json" in documents and "oci-layout" in documents:
        index = mf.read(documents["index.json"], media.OCI_INDEX)
        if not isinstance(index, ManifestIndex):
            raise ArchiveError("index.json of an archive is no index", hint="export the image again")
        return load(blobs, choose(index, name, platform, where="the archive"), platform=platform)
    if "manifest.json" in documents:
        return _docker_image(documents["manifest.json"], name, files, links, blobs)
    raise ArchiveError("neither index.json nor manifest.json is in the archive", hint="give an OCI archive or the output of docker save")


def _names(name: str) -> dict[str, str]:
    if not name:
        return {}
    ref = reference.parse(name)
    return {CONTAINERD_NAME: f"{ref.name}:{ref.tag or 'latest'}", REF_NAME: ref.tag or "latest"}


def _docker_manifest(image: Image, name: str) -> bytes:
    entry: dict[str, Any] = {
        "Config": _path(image.manifest.config.digest),
        "RepoTags": [name.removeprefix("docker.io/library/").removeprefix("docker.io/")] if name else None,
        "Layers": [_path(d.digest) for d in image.manifest.layers],
    }
    return mf.encode([entry])


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _file(out: BinaryIO, name: str, data: bytes) -> None:
    out.write(tw.header(name.encode(), kind=tw.FILE, mode=0o644, size=len(data)) + data + tw.padding(len(data)))


def _blob(out: BinaryIO, descriptor: Descriptor, source: Image | bytes) -> None:
    name = _path(descriptor.digest)
    if isinstance(source, bytes):
        _file(out, name, source)
        return
    out.write(tw.header(name.encode(), kind=tw.FILE, mode=0o644, size=descriptor.size))
    left = descriptor.size
    with source.blobs.open(descriptor.digest) as f:
        while left and (block := f.read(min(BLOCK, left))):
            out.write(block)
            left -= len(block)
        if left or f.read(1):
            raise ArchiveError(
                f"the blob {descriptor.digest} does not have its {descriptor.size} bytes", hint="remove the image and fetch it again"
            )
    out.write(tw.padding(descriptor.size))


def _small(tar: TarReader, member: Member) -> bytes:
    if member.size > _SMALL:
        raise ArchiveError(f"{member.name} of an archive has {member.size} bytes", hint="this is no image archive")
    return b"".join(tar.data())


def _take(tar: TarReader, member: Member, path: str, blobs: BlobDir) -> Descriptor:
    """Move one file of the archive into the blobs; what a blob is called must be its digest."""
    head = b""
    want = None
    if path.startswith("blobs/sha256/"):
        want = Descriptor(media_type="", digest=f"sha256:{posixpath.basename(path)}", size=member.size)
        if blobs.has(want.digest):
            with blobs.open(want.digest) as f:
                return replace(want, media_type=_layer_type(f.read(4)))
    with blobs.writer(want) as w:
        for piece in tar.data():
            head = head or bytes(piece[:4])
            w.write(piece)
    return Descriptor(media_type=_layer_type(head), digest=w.digest, size=member.size)


def _layer_type(head: bytes) -> str:
    return media.layer("gzip" if head[:2] == b"\x1f\x8b" else "zstd" if head == b"\x28\xb5\x2f\xfd" else "none")


def _docker_image(data: bytes, name: str, files: dict[str, Descriptor], links: dict[str, str], blobs: BlobDir) -> Image:
    """Build an image from the list that `docker save` writes."""
    listed = mf.load_object(b'{"images":' + data + b"}", "manifest.json")["images"]
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    if name:
        entries = [e for e in entries if any(name in _tags(t) for t in e.get("RepoTags") or ())]
    if len(entries) != 1:
        raise ArchiveError(f"the archive holds {len(entries)} images{f' called {name}' if name else ''}", hint="name one of its tags")

    def find(path: object) -> Descriptor:
        wanted = posixpath.normpath(str(path))
        for _ in range(8):
            if wanted in files:
                return files[wanted]
            wanted = links.get(wanted, wanted)
        raise ArchiveError(f"the archive does not hold {path}", hint="save the image again")

    config = cfg.read(blobs.read(find(entries[0].get("Config")).digest))
    layers = [find(path) for path in entries[0].get("Layers") or ()]
    return from_layers(config, layers, blobs)


def _tags(tag: object) -> tuple[str, ...]:
    """Return the spellings under which a tag of `docker save` may be asked for."""
    text = str(tag)
    return text, text.rpartition(":")[2], str(reference.parse(text))
