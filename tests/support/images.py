"""Small images for tests, made with pocket's own packer."""

import io
from pathlib import Path

from pocket.oci import media
from pocket.oci.blobs import BlobDir
from pocket.oci.config import ImageConfig
from pocket.oci.image import Image, from_layers
from pocket.oci.manifest import Descriptor
from pocket.oci.pack import pack_layer
from pocket.store.index import Entry


def make_layer(blobs: BlobDir, name: str, content: bytes, *, compression: str = "gzip") -> tuple[Descriptor, str]:
    """Put a layer with one file into `blobs`; return its descriptor and diff id."""
    out = io.BytesIO()
    done = pack_layer({name: Entry("f", 0o644, size=len(content))}, lambda _: io.BytesIO(content), out, compression=compression)  # type: ignore[arg-type]
    blobs.put_bytes(out.getvalue())
    return Descriptor(media_type=media.layer(compression), digest=done.digest, size=done.size), done.diff_id


def make_image(directory: Path, *contents: bytes, architecture: str = "amd64", env: tuple[str, ...] = ("A=1",)) -> Image:
    """Make an image with one layer per content in blobs below `directory`."""
    blobs = BlobDir(directory / "blobs")
    made = [make_layer(blobs, f"file{i}", c) for i, c in enumerate(contents)]
    config = ImageConfig(architecture=architecture, env=env, cmd=("sh",), diff_ids=tuple(d for _, d in made))
    image = from_layers(config, [d for d, _ in made], blobs)
    blobs.put_bytes(image.config_bytes)
    return image
