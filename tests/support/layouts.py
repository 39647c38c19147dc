"""Read an OCI image layout the way any other tool would: from the specification, with the standard library, checking every digest.

Deliberately not pocket's own reader: what Weighbridge pushed must be right for others. Layers are unpacked without owners, since the
reader may be anybody, and without device nodes.
"""

import hashlib
import json
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a layout: its manifest's digest, and what the manifest names."""

    layout: Path
    digest: str
    manifest: dict[str, Any]
    config: dict[str, Any]

    def unpack(self, target: Path) -> None:
        """Unpack all layers, whiteouts applied."""
        for layer in self.manifest["layers"]:
            _unpack_layer(self.layout / "blobs" / layer["digest"].replace(":", "/"), target)


def blob(layout: Path, digest: str) -> bytes:
    """Read a blob and check that it is what its name says."""
    data = (layout / "blobs" / digest.replace(":", "/")).read_bytes()
    assert "sha256:" + hashlib.sha256(data).hexdigest() == digest
    return data


def images(layout: Path) -> list[Image]:
    """List the runnable images of a layout, all blobs checked; other artefacts are left out."""
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    found = []
    waiting = list(json.loads((layout / "index.json").read_text())["manifests"])
    while waiting:
        descriptor = waiting.pop(0)
        document = json.loads(blob(layout, descriptor["digest"]))
        if descriptor["mediaType"] in INDEXES:
            waiting += document["manifests"]
            continue
        for part in (document["config"], *document["layers"]):
            assert len(blob(layout, part["digest"])) == part["size"]
        if "image.config" in document["config"]["mediaType"] or "container.image" in document["config"]["mediaType"]:
            config = json.loads(blob(layout, document["config"]["digest"]))
            found.append(Image(layout, descriptor["digest"], document, config["config"]))
    return found


def _unpack_layer(path: Path, target: Path) -> None:
    with tarfile.open(path) as archive:  # finds out by itself how the layer is compressed
        archive.extraction_filter = _as_it_is  # by attribute: Python before 3.11.4 has no argument for it
        members = archive.getmembers()
        for member in members:
            directory, _, name = member.name.rpartition("/")
            if name == ".wh..wh..opq":
                shutil.rmtree(target / directory, ignore_errors=True)
            elif name.startswith(".wh."):
                gone = target / directory / name.removeprefix(".wh.")
                shutil.rmtree(gone) if gone.is_dir() and not gone.is_symlink() else gone.unlink(missing_ok=True)
        for member in members:
            if "/.wh." not in f"/{member.name}" and not member.isdev():
                member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
                archive.extract(member, target, set_attrs=not member.isdir())


def _as_it_is(member: tarfile.TarInfo, _path: str) -> tarfile.TarInfo:
    return member
