"""Unpacking a layer into a directory of its own, as overlayfs wants it, from archives that nobody vouches for.

Where a name leads is decided on the index that is being built (links are resolved inside the layer and, when given, the layers
below, never on the host), and the kernel only sees single names below held directories. Whiteouts become character devices 0:0,
real devices stay metadata, set-id bits and extended attributes are set after the owner, directories get their mode and time
last. Reading order: `_Layer.add` → `_place` (where) → one method per kind → `finish`.
"""

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pocket.oci import digest as dg
from pocket.oci.confine import Root
from pocket.oci.layertree import LayerTree, Lower
from pocket.oci.nodes import Nodes
from pocket.oci.tarheader import LayerError, Limits, Member
from pocket.oci.tarread import TarReader
from pocket.store.index import Entry, Index

__all__ = ["LayerError", "Limits", "Unpacked", "unpack_layer"]
_TIMES = (-(1 << 31), (1 << 34) - 1)  # what ext4 stores
_IDS = 0xFFFFFFFE
_KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_DROPPED_XATTRS = ("user.overlay.", "user.containers.", "user.rootlesscontainers")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was unpacked: the true entries, the digest and size of the plain tar stream, and remarks for the log."""

    index: Index
    diff_id: str
    size: int
    notes: tuple[str, ...] = ()


def unpack_layer(
    stream: BinaryIO,
    dest: Path,
    *,
    chown: bool,
    opaque_xattr: str,
    lower: Lower | None = None,
    expect: str = "",
    limits: Limits | None = None,
) -> Unpacked:
    """Unpack a layer (gzip, zstd or plain) into `dest`, which must be new or empty.

    `chown` applies owners for real; the index has the true ones in any case. `lower(path)` gives the entry of the merged layers
    below and where it is on disk: it is asked for links and for the attributes of directories that the layer does not list.
    `expect` is the diff id to verify. On an error what lies in `dest` is to be thrown away. Raises LayerError,
    CompressionError or DigestError.
    """
    dest.mkdir(parents=True, exist_ok=True)
    if any(dest.iterdir()):
        raise LayerError(f"{dest} is not empty", hint="unpack each layer into a fresh directory")
    with TarReader(stream, limits or Limits()) as tar, Root(dest) as root:
        nodes = Nodes(root, chown=chown, opaque_xattr=opaque_xattr)
        layer = _Layer(LayerTree(root, lower), nodes, tar)
        name = ""
        try:
            for member in tar:
                name = member.name
                layer.add(member)
            diff_id = tar.finish()
            layer.tree.finish(nodes)
        except OSError as e:
            raise LayerError(f"cannot unpack {name!r}: {e.strerror or e}", hint=_hint(e)) from e
    if expect:
        dg.expect("a layer", want=expect, got=diff_id)
    index = layer.tree.entries
    return Unpacked({path: index[path] for path in sorted(index)}, diff_id, tar.size, tuple(nodes.notes))


def _hint(e: OSError) -> str:
    import errno

    return {
        errno.ENOSPC: "the disk is full; free some space or move the cache",
        errno.EDQUOT: "the quota is used up; free some space or move the cache",
        errno.EPERM: "the file system of the cache refuses this kind of entry; move the cache to a local disk",
    }.get(e.errno or 0, "check the layer, and the file system that holds the cache")


class _Layer:
    """Puts members in their place; one method per kind."""

    def __init__(self, tree: LayerTree, nodes: Nodes, tar: TarReader) -> None:
        self.tree, self._nodes, self._tar = tree, nodes, tar
        self._kinds: dict[str, Callable[[str, Entry, Member], None]] = {
            "0": self._file,
            "1": self._hardlink,
            "2": self._symlink,
            "3": self._device,
            "4": self._device,
            "5": self._directory,
            "6": self._fifo,
        }

    def add(self, m: Member) -> None:
        """Apply one member."""
        parts = split(m.name)
        if any(p.startswith(".wh.") for p in parts):
            self._whiteout(parts)
            return
        apply = self._kinds.get(m.kind)
        if apply is None:
            raise LayerError(f"{m.name!r}: an entry of the unknown kind {m.kind!r}", hint="pack the layer with another program")
        if not parts:
            if m.kind != "5":
                raise LayerError("a layer replaces its root by something that is no directory", hint="the layer is hostile")
            self.tree.set_directory("", _entry("d", m))
            return
        parent = self.tree.resolve(parts[:-1])
        apply(f"{parent}/{parts[-1]}" if parent else parts[-1], _entry("", m), m)

    def _file(self, path: str, e: Entry, m: Member) -> None:
        self.tree.clear(path)
        fd = self._nodes.create(path)
        try:
            content = self._nodes.write(fd, self._tar, m)
            entry = e._replace(kind="f", size=m.length, target=content)
            self._nodes.settle(fd, entry, path)
        finally:
            os.close(fd)
        self.tree.set(path, entry)

    def _directory(self, path: str, e: Entry, m: Member) -> None:
        self.tree.set_directory(path, e._replace(kind="d"))

    def _symlink(self, path: str, e: Entry, m: Member) -> None:
        if not m.link:
            raise LayerError(f"{path!r} is a link to nothing", hint="the layer is damaged")
        self._copy_of(path, e._replace(kind="l", mode=0o777, target=m.link))

    def _device(self, path: str, e: Entry, m: Member) -> None:
        if m.kind == "3" and m.device == (0, 0):  # how overlayfs writes a whiteout: taken as one
            self.tree.whiteout(path)
            return
        self.tree.clear(path)
        self.tree.set(path, e._replace(kind="c" if m.kind == "3" else "b", target=f"{m.device[0]}:{m.device[1]}"))
        self._nodes.note(f"device {path} is kept as metadata and not created")

    def _fifo(self, path: str, e: Entry, m: Member) -> None:
        self._copy_of(path, e._replace(kind="p"))

    def _hardlink(self, path: str, e: Entry, m: Member) -> None:
        """Link to a file of this layer; a target in a lower layer is copied, because inodes are not shared across layers."""
        parts = split(m.link)
        target = "/".join(parts)
        if parts:
            parent = self.tree.resolve(parts[:-1], create=False)
            target = f"{parent}/{parts[-1]}" if parent else parts[-1]
        if target == path:
            return
        found = self.tree.entries.get(target)
        source: Path | None = None
        if found is None and (below := self.tree.below(target)):
            found, source = below
        if found is None or found.kind in "wd" or target.startswith(f"{path}/"):
            raise LayerError(
                f"{path!r} is a hard link to {target!r}, which is no file of the image", hint="the layer is damaged or hostile"
            )
        self.tree.clear(path)
        if found.kind != "f":
            self._copy_of(path, found)
            return
        if source is None:
            self._nodes.link(target, path)
        else:
            self._nodes.copy(source, path, found)
        self.tree.set(path, found)

    def _copy_of(self, path: str, e: Entry) -> None:
        """Make a link or fifo from its entry; devices exist only in the index."""
        self.tree.clear(path)
        if e.kind == "l":
            self._nodes.symlink(path, e)
        elif e.kind == "p":
            self._nodes.fifo(path, e)
        self.tree.set(path, e)

    def _whiteout(self, parts: list[str]) -> None:
        """Record a deletion. Names with `.wh..wh.` other than the opaque mark are aufs' own business and mean nothing."""
        last, parent = parts[-1], parts[:-1]
        special = [p for p in parts if p.startswith(".wh..wh.")]
        if last == ".wh..wh..opq" and len(special) == 1 and not any(p.startswith(".wh.") for p in parent):
            self.tree.make_opaque(self.tree.resolve(parent))
            return
        if special:
            return
        name = last.removeprefix(".wh.")
        if name in ("", ".", "..", last) or any(p.startswith(".wh.") for p in parent):
            raise LayerError(f"{'/'.join(parts)!r} is not a valid whiteout", hint="the layer is damaged or hostile")
        at = self.tree.resolve(parent)
        self.tree.whiteout(f"{at}/{name}" if at else name)


def split(name: str) -> list[str]:
    """Return the components of a name in an archive; a leading slash means the root of the layer, `..` is refused."""
    parts = [p for p in name.split("/") if p not in ("", ".")]
    if ".." in parts:
        raise LayerError(f"{name!r} climbs out of its directory", hint="the layer is hostile, or was packed by a broken program")
    for part in parts:
        if len(os.fsencode(part)) > 255:
            raise LayerError(f"{name[:60]!r}… has a component of more than 255 bytes", hint="no file system could hold it")
    return parts


def _entry(kind: str, m: Member) -> Entry:
    """Return what the header says, within what file systems can hold."""
    if not (0 <= m.uid <= _IDS and 0 <= m.gid <= _IDS):
        raise LayerError(f"{m.name!r} belongs to the impossible user {m.uid}:{m.gid}", hint="the layer is damaged or hostile")
    xattrs: tuple[tuple[str, str], ...] = ()
    if m.xattrs:
        xattrs = tuple(
            (k, base64.b64encode(v).decode()) for k, v in m.xattrs if k.startswith(_KEPT_XATTRS) and not k.startswith(_DROPPED_XATTRS)
        )
    return Entry(kind, m.mode, m.uid, m.gid, 0, min(max(m.mtime, _TIMES[0]), _TIMES[1]), "", False, xattrs)
