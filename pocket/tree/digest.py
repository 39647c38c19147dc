"""Digests of trees: Dagger's own (BuildKit's content hash, as observed) and the content key that pocket's keys are built on.

Neither holds modification times.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator

from pocket.store.index import Entry
from pocket.tree.view import Node, View

_TYPES = {"d": "5", "l": "2", "c": "3", "b": "4", "p": "6"}


def _header(e: Entry) -> bytes:
    major, _, minor = (e.target if e.kind in "cb" else "0:0").partition(":")
    fields = {
        "name": "",
        "mode": e.mode,
        "uid": e.uid,
        "gid": e.gid,
        "size": e.size if e.kind == "f" else 0,
        "typeflag": _TYPES.get(e.kind, "0"),
        "linkname": e.target if e.kind == "l" else "",
        "uname": "",
        "gname": "",
        "devmajor": major,
        "devminor": minor,
    }
    text = "".join(f"{k}{v}" for k, v in fields.items()).encode("utf-8", "surrogateescape")
    for name, value in e.xattrs:
        text += name.encode() + base64.b64decode(value)
    return text


def _leaf(view: View, node: Node) -> str:
    h = hashlib.sha256(_header(node.entry))
    if node.entry.kind == "f":
        with open(view.real(node), "rb") as f:
            while block := f.read(1 << 20):
                h.update(block)
    return "sha256:" + h.hexdigest()


def dagger_file_digest(view: View, path: str, *, exclude_metadata: bool = False) -> str:
    """Return what `File.digest` answers."""
    node = view.file(path)
    if exclude_metadata:
        return "sha256:" + hashlib.sha256(bytes.fromhex(node.entry.target)).hexdigest()
    return _leaf(view, node)


def dagger_digest(view: View, path: str = "") -> str:
    """Return what `Directory.digest` answers."""
    return _directory(view, view.directory(path))


def _directory(view: View, node: Node) -> str:
    h = hashlib.sha256(b"\0sha256:" + hashlib.sha256(_header(node.entry)).hexdigest().encode())
    for child in sorted(view.listdir(node.path), key=lambda n: n.name.encode("utf-8", "surrogateescape")):
        h.update(b"\0" + child.name.encode("utf-8", "surrogateescape"))
        h.update((_directory(view, child) if child.is_dir else _leaf(view, child)).encode())
    return "sha256:" + h.hexdigest()


def content_key(view: View, path: str = "") -> str:
    """Return the identity of what lies at a path: of a file its entry, of a directory everything below, whatever the layers."""
    node = view.need(path)
    if not node.is_dir:
        return hashlib.sha256(b"file\n" + row("", node.entry)).hexdigest()
    return tree_key(_by_directory(view, node))


def _by_directory(view: View, root: Node) -> Iterator[tuple[str, Entry, str]]:
    skip = len(root.path) + 1 if root.path else 0
    leaves: dict[str, list[tuple[str, Entry]]] = {"": []}
    folders: dict[str, Entry] = {"": root.entry}
    for path, e, _ in view.walk(root.path):
        parent, _, name = path[skip:].rpartition("/")
        if e.kind == "d":
            folders[path[skip:]] = e
            leaves[path[skip:]] = []
        else:
            leaves[parent].append((name, e))
    for path, e in folders.items():
        yield path, e, leaves_key(leaves[path])


def row(name: str, e: Entry) -> bytes:
    """Return what of an entry belongs to a content key."""
    text = f"{name}\0{e.kind}\0{e.mode}\0{e.uid}\0{e.gid}\0{e.size}\0{e.target}\0{e.xattrs or ''}\n"
    return text.encode("utf-8", "surrogateescape")


def leaves_key(leaves: Iterable[tuple[str, Entry]]) -> str:
    """Return the identity of a directory's own files, links and other leaves."""
    return hashlib.sha256(b"".join(row(name, e) for name, e in sorted(leaves))).hexdigest()


def tree_key(folders: Iterable[tuple[str, Entry, str]]) -> str:
    """Return the identity of a tree from its directories: path, entry and the key of their leaves."""
    h = hashlib.sha256(b"tree\n")
    for path, e, own in sorted(folders):
        h.update(row(path, e._replace(size=0)) + own.encode() + b"\n")
    return h.hexdigest()
