"""ADD of local archives: which files are archives, and their trees.

A file is an archive when what comes out of it, decompressed if need be, begins with a valid tar header; everything else that ADD
names is copied as it is. gzip, zstd, bzip2 and xz are known.
"""

from __future__ import annotations

import bz2
import lzma
import tarfile
from typing import TYPE_CHECKING, BinaryIO, cast

from pocket.oci.compress import CompressionError, decompressed
from pocket.oci.unpack import unpack_layer
from pocket.store import disk
from pocket.store.builder import publish
from pocket.tree import ops

if TYPE_CHECKING:
    from pathlib import Path

    from pocket.dockerfile.copy import Owner
    from pocket.store.layer import Layer, Snapshot
    from pocket.store.store import Store

_BLOCK = 512
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")


def is_archive(path: Path) -> bool:
    """Tell whether ADD unpacks the file."""
    with path.open("rb") as f:
        head = f.read(_BLOCK)
    try:
        if head.startswith(_COMPRESSED):
            with _plain(path) as stream:
                head = next(iter(decompressed(stream)), b"")[:_BLOCK]
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (OSError, EOFError, ValueError, lzma.LZMAError, tarfile.HeaderError, CompressionError):
        return False
    return True


def unpacked(store: Store, base: Snapshot, path: Path, dest: str, owner: Owner) -> tuple[Layer, ...]:
    """Unpack an archive at `dest`, a directory that is made, with `owner`, where there is none."""
    home = store.tmp()
    try:
        with _plain(path) as stream:
            found = unpack_layer(stream, home / "fs", chown=store.tier != "single-uid", opaque_xattr=disk.OPAQUE[store.tier])
        layer = publish(store, home, found.index)
    except BaseException:
        disk.remove_tree(home)
        raise
    made = ops.make_dir(store, base, dest, owner=owner)
    snapshot = type(base)((*base.layers, *made), base.key)
    return (*made, *ops.copy_tree(store, snapshot, type(base)((layer,), f"archive:{layer.digest}"), dest=dest))


def _plain(path: Path) -> BinaryIO:
    """Open a file so that what an image layer may not be compressed with is already undone."""
    with path.open("rb") as f:
        head = f.read(6)
    if head.startswith(b"BZh"):
        return cast("BinaryIO", bz2.open(path))
    if head.startswith(b"\xfd7zXZ"):
        return cast("BinaryIO", lzma.open(path))
    return path.open("rb")
