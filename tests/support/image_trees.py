"""Image archives (OCI's and Docker's) as plain data: the tree with its owners, and the settings of the configuration."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

Row = list[Any]
Tree = dict[str, Row]
KINDS = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.FIFOTYPE: "p", tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b"}
SETTINGS = (
    "Env", "Entrypoint", "Cmd", "User", "WorkingDir", "Labels", "ExposedPorts", "Volumes", "StopSignal", "Healthcheck", "OnBuild", "Shell",
)  # fmt: skip


def read(archive: Path) -> tuple[Tree, dict[str, Any]]:
    """Give the merged tree, by path: [kind, mode in octal, uid, gid, link target or the content's sha256]; and the settings."""
    with tarfile.open(archive) as tar:

        def take(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        def blob(descriptor: dict[str, Any]) -> bytes:
            return take("blobs/" + descriptor["digest"].replace(":", "/"))

        if "index.json" in tar.getnames():
            manifest = json.loads(blob(json.loads(take("index.json"))["manifests"][0]))
            config, layers = json.loads(blob(manifest["config"])), [blob(d) for d in manifest["layers"]]
        else:
            (manifest,) = json.loads(take("manifest.json"))
            config, layers = json.loads(take(manifest["Config"])), [take(name) for name in manifest["Layers"]]
    tree: Tree = {}
    for packed in layers:
        _apply(tree, gzip.decompress(packed) if packed.startswith(b"\x1f\x8b") else packed)
    return tree, settings(config["config"])


def _apply(tree: Tree, layer: bytes) -> None:
    added: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for member in tar:
            path = member.name.removeprefix("./").strip("/")
            folder, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                _remove(tree, folder, itself=False)
            elif name.startswith(".wh."):
                _remove(tree, f"{folder}/{name[4:]}".strip("/"), itself=True)
            elif path not in ("", "."):
                added[path] = _row(tar, member, {**tree, **added})
    for path, row in added.items():
        if row[0] != "d" or (path in tree and tree[path][0] != "d"):
            _remove(tree, path, itself=True)
        tree[path] = row


def _remove(tree: Tree, path: str, *, itself: bool) -> None:
    for other in [p for p in tree if p.startswith(f"{path}/") or (itself and p == path)]:
        del tree[other]


def _row(tar: tarfile.TarFile, member: tarfile.TarInfo, known: Tree) -> Row:
    if member.islnk():
        return known[member.linkname.removeprefix("./").strip("/")]
    kind = KINDS.get(member.type, "f")
    detail = member.linkname if kind == "l" else ""
    if kind == "f":
        file = tar.extractfile(member)
        assert file is not None
        detail = hashlib.sha256(file.read()).hexdigest()
    return [kind, f"{member.mode & 0o7777:o}" if kind != "l" else "", member.uid, member.gid, detail]


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Give the settings that are set; what has no order in one, and defaults, are written one way."""
    found = {name: config[name] for name in SETTINGS if config.get(name)}
    found["Env"] = dict(v.split("=", 1) for v in found.get("Env", []))
    for name in ("ExposedPorts", "Volumes"):
        found[name] = sorted(found.get(name, {}))
    if found.get("WorkingDir") == "/":
        del found["WorkingDir"]
    return {k: v for k, v in sorted(found.items()) if v}


def changes(tree: Tree, base: Tree) -> dict[str, Row | None]:
    """Give what differs from the base; None for what is gone."""
    new: dict[str, Row | None] = {path: row for path, row in tree.items() if base.get(path) != row}
    return dict(sorted({**new, **dict.fromkeys(base.keys() - tree.keys())}.items()))
