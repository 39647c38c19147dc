"""OCI image layouts: a directory with `oci-layout`, `index.json` and `blobs/`, shared by many readers and writers.

Blobs come first and the index last, by rename, so a reader never sees a name whose content is not there. Writers of the index
take a lock on the directory itself (flock), which leaves no file behind and dies with its holder; it needs a local file system.
"""

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pocket.errors import PocketError
from pocket.oci import manifest as mf
from pocket.oci.blobs import BLOCK, BlobDir
from pocket.oci.image import Image, index_of, load
from pocket.oci.manifest import REF_NAME, Descriptor, ManifestIndex, Platform

VERSION = b'{"imageLayoutVersion":"1.0.0"}'
CONTAINERD_NAME = "io.containerd.image.name"


class LayoutError(PocketError):
    """A directory that is no layout, or a name that is not in it."""


class Layout:
    """A layout at a path. Nothing is written until the first image is put."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = BlobDir(path / "blobs")

    def index(self) -> ManifestIndex:
        """Read `index.json`. Raises LayoutError when this is no layout."""
        try:
            mark = mf.load_object((self.path / "oci-layout").read_bytes(), "oci-layout")
            found = mf.read((self.path / "index.json").read_bytes())
        except FileNotFoundError as e:
            raise LayoutError(f"{self.path} is not an OCI layout: {Path(e.filename).name} is missing", hint="check the path") from e
        if not isinstance(found, ManifestIndex) or mark.get("imageLayoutVersion") != "1.0.0":
            raise LayoutError(f"{self.path} is an OCI layout of an unknown version", hint="only version 1.0.0 is supported")
        return found

    def get(self, name: str = "", *, platform: Platform | None = None) -> Image:
        """Return the image of a name, or the only one; blobs are verified when they are read here."""
        return load(self.blobs, choose(self.index(), name, platform, where=str(self.path)), platform=platform)

    def put(self, image: Image, name: str = "") -> Descriptor:
        """Copy an image in and give it a name, which it takes from whatever had it before."""
        store(image, self.blobs)
        return self._enter(image.descriptor, name)

    def put_index(self, images: list[Image], name: str = "") -> Descriptor:
        """Copy a multi-platform image in as one index."""
        for image in images:
            store(image, self.blobs)
        index = index_of(images)
        data = index.to_bytes()
        return self._enter(Descriptor(media_type=index.media_type, digest=self.blobs.put_bytes(data), size=len(data)), name)

    def _enter(self, descriptor: Descriptor, name: str) -> Descriptor:
        with self._locked():
            try:
                old = self.index()
            except LayoutError:
                if (self.path / "index.json").exists():
                    raise
                _replace(self.path / "oci-layout", VERSION)
                old = ManifestIndex(manifests=())
            entry = replace(descriptor, annotations={REF_NAME: name} if name else {})
            kept = [d for d in old.manifests if d != entry and not (name and d.annotations.get(REF_NAME) == name)]
            _replace(self.path / "index.json", replace(old, manifests=(*kept, entry)).to_bytes())
        return entry

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
            except OSError as e:
                if e.errno not in (errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP):
                    raise
                raise LayoutError(f"{self.path} is on a file system without locks", hint="keep the layout on a local disk") from e
            yield
        finally:
            os.close(fd)


def store(image: Image, blobs: BlobDir) -> None:
    """Copy what an image consists of into `blobs`, verified; what is there already is not read again."""
    for descriptor in (*image.manifest.layers, image.manifest.config):
        if not blobs.has(descriptor.digest):
            if descriptor == image.manifest.config:
                blobs.put_bytes(image.config_bytes, want=descriptor)
                continue
            with image.blobs.open(descriptor.digest) as source, blobs.writer(descriptor) as target:
                while block := source.read(BLOCK):
                    target.write(block)
    blobs.put_bytes(image.manifest_bytes)


def choose(index: ManifestIndex, name: str, platform: Platform | None, *, where: str) -> Descriptor:
    """Return the entry of an index.json for a name or tag; without one the only image, or the one for the platform.

    Raises LayoutError that lists the names.
    """
    entries = index.manifests
    if name:
        entries = tuple(d for d in entries if name in names(d))
    if len(entries) == 1:
        return entries[0]
    if entries and len({names(d) for d in entries}) == 1:
        return replace(index, manifests=entries).select(platform or Platform.local())
    known = ", ".join(sorted({n for d in index.manifests for n in names(d)})) or "none has a name"
    problem = f"has no image {name!r}" if name else f"holds {len(entries)} images"
    raise LayoutError(f"{where} {problem}", hint=f"name one of: {known}")


def names(d: Descriptor) -> tuple[str, ...]:
    """Return the names by which an entry may be asked for: the full one and its tag."""
    full = d.annotations.get(CONTAINERD_NAME, "")
    short = d.annotations.get(REF_NAME, "")
    tag = short.rpartition(":")[2] if ":" in short.rpartition("/")[2] else ""
    return tuple(dict.fromkeys(n for n in (full, short, tag) if n))


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole: temporary file, flush, rename."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
            os.fchmod(f.fileno(), 0o644)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
