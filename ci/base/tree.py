"""A root file system as data: paths → entries, written as a reproducible tar or OCI archive without needing any privilege.

Everything is owned by 0:0, sorted, and carries one fixed time, so equal inputs make equal bytes. Nothing is unpacked on this machine: an
ordinary user can write owners and modes into a tar file that the kernel would refuse them on disk.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, cast

from ci.base import stopping

if TYPE_CHECKING:
    from collections.abc import Mapping

# 1980-01-02: zip files cannot hold anything earlier, and wheels are zip files that get built inside these images.
FIXED_TIME = 315_619_200
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


class _Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of the tree; a file's content is bytes, or lies on this machine."""

    kind: Literal["dir", "file", "link"]
    mode: int
    content: bytes | Path = b""
    target: str = ""


@dataclass(slots=True)
class Tree:
    """A growing root file system; the first entry at a path wins, so that callers add the specific before the general."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._put(path, Entry("link", 0o777, target=target))

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory and, with mode 0755, its parents."""
        self._put(path, Entry("dir", mode))

    def file(self, path: str, content: bytes | Path, mode: int = 0o644) -> None:
        """Add a regular file; a `Path` is read when the archive is written."""
        stopping.check()
        self._put(path, Entry("file", mode, content))

    def resolve(self, path: str) -> str:
        """Give the place that a path has in the tree: links in its directory part (usrmerge) are followed, nothing of this machine is."""
        done: list[str] = []
        for part in PurePosixPath(path.lstrip("/")).parent.parts:
            done.append(part)
            entry = self.entries.get("/".join(done))
            if entry is not None and entry.kind == "link":
                target = PurePosixPath("/", *done[:-1], entry.target)
                done = [piece for piece in os.path.normpath(target).split("/") if piece]
        return "/".join([*done, PurePosixPath(path).name])

    def _put(self, path: str, entry: Entry) -> None:
        place = self.resolve(path)
        for parent in reversed(PurePosixPath(place).parents[:-1]):
            self.entries.setdefault(str(parent), Entry("dir", 0o755))
        self.entries.setdefault(place, entry)

    def write_tar(self, out: _Writable) -> None:
        """Write all entries, sorted, as an uncompressed tar stream."""
        with tarfile.open(fileobj=cast("IO[bytes]", out), mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(self.entries):
                stopping.check()
                entry = self.entries[path]
                info = tarfile.TarInfo(path)
                info.mode, info.mtime = entry.mode, FIXED_TIME
                if entry.kind == "dir":
                    info.type = tarfile.DIRTYPE
                    tar.addfile(info)
                elif entry.kind == "link":
                    info.type, info.linkname = tarfile.SYMTYPE, entry.target
                    tar.addfile(info)
                else:
                    content = entry.content if isinstance(entry.content, bytes) else entry.content.read_bytes()
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


class _Hashing:
    """Passes what is written on to another file and remembers its digest."""

    def __init__(self, out: _Writable) -> None:
        self._out = out
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        """Write and count; zlib and tarfile ask for nothing else of a file."""
        self.hash.update(data)
        self.size += len(data)
        self._out.write(data)
        return len(data)


def write_oci_archive(tree: Tree, out: Path, *, config: Mapping[str, Any], architecture: str, labels: Mapping[str, str]) -> str:
    """Write the tree as an OCI image archive with one layer; returns the manifest's digest ("sha256:…").

    `config` is the image configuration's `config` object without labels. Level 1 compression: what it does not save, a fast local disk does
    not miss, and it takes a second where the default takes six.
    """
    layer = out.with_name(out.name + ".layer")
    with layer.open("wb") as handle:
        compressed = _Hashing(handle)
        with gzip.GzipFile(filename="", fileobj=cast("IO[bytes]", compressed), mode="wb", compresslevel=1, mtime=0) as zipped:
            plain = _Hashing(zipped)
            tree.write_tar(plain)
    digest = compressed.hash.hexdigest()
    image = {
        "architecture": architecture,
        "os": "linux",
        "created": "1980-01-02T00:00:00Z",
        "config": {**config, "Labels": dict(sorted(labels.items()))},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + plain.hash.hexdigest()]},
        "history": [{"created": "1980-01-02T00:00:00Z", "created_by": "weighbridge: base host"}],
    }
    config_blob = _json(image)
    manifest_blob = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config_blob),
            "layers": [{"mediaType": LAYER_TYPE, "digest": "sha256:" + digest, "size": compressed.size}],
        }
    )
    index = _json({"schemaVersion": 2, "manifests": [_descriptor(MANIFEST_TYPE, manifest_blob)]})
    blobs: dict[str, bytes | Path] = {_hex(manifest_blob): manifest_blob, _hex(config_blob): config_blob, digest: layer}
    _write_layout(out, index, blobs)
    layer.unlink()
    return "sha256:" + hashlib.sha256(manifest_blob).hexdigest()


def _write_layout(out: Path, index: bytes, blobs: Mapping[str, bytes | Path]) -> None:
    with tarfile.open(out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", index)
        for digest, content in blobs.items():
            if isinstance(content, bytes):
                _add(tar, f"blobs/sha256/{digest}", content)
                continue
            info = tarfile.TarInfo(f"blobs/sha256/{digest}")
            info.size, info.mtime, info.mode = content.stat().st_size, FIXED_TIME, 0o644
            with content.open("rb") as handle:
                tar.addfile(info, handle)


def _hex(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), FIXED_TIME, 0o644
    tar.addfile(info, io.BytesIO(content))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": "sha256:" + hashlib.sha256(blob).hexdigest(), "size": len(blob)}
