"""Layers for tests, member by member, hostile ones included: short names for what is said often."""

import hashlib
import io
import os
from pathlib import Path

from pocket.oci import tarwrite as tw
from pocket.oci.layertree import Lower
from pocket.oci.unpack import Unpacked, unpack_layer

ROOT = os.geteuid() == 0
SHA = hashlib.sha256(b"abc").hexdigest()


def f(name: str | bytes, data: bytes = b"abc", **fields: object) -> bytes:
    raw = name if isinstance(name, bytes) else os.fsencode(name)
    fields = {"kind": tw.FILE, "mode": 0o644, "size": len(data), **fields}
    return tw.header(raw, **fields) + data + tw.padding(len(data))  # type: ignore[arg-type]


def node(kind: bytes, name: str, **fields: object) -> bytes:
    return tw.header(os.fsencode(name), **{"kind": kind, "mode": 0o755, **fields})  # type: ignore[arg-type]


def d(name: str, **fields: object) -> bytes:
    return node(tw.DIRECTORY, name, **fields)


def link(name: str, target: str) -> bytes:
    return node(tw.SYMLINK, name, link=os.fsencode(target))


def hard(name: str, target: str) -> bytes:
    return node(tw.HARDLINK, name, link=os.fsencode(target))


def unpack(dest: Path, *parts: bytes, lower: Lower | None = None, end: bytes = tw.END, **options: object) -> Unpacked:
    data = b"".join(parts) + end
    got = unpack_layer(io.BytesIO(data), dest, chown=ROOT, opaque_xattr="user.overlay.opaque", lower=lower, **options)  # type: ignore[arg-type]
    assert got.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
    assert got.size == len(data)
    return got
