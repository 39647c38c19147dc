"""Packs a model as an OCI artefact: weights, configuration, documents, in the media types of the CNCF ModelPack specification 0.0.7.

Standard library only and one file, because it runs inside a container: `python artefact.py job.json out.tar` writes an OCI archive. Weights
are layers of their own, uncompressed and byte for byte the files they are, so that a registry and a node keep each of them once. The
result depends on nothing but the files and the job: no time, no owner, no machine.

The job: {"name", "version", "revision", "root", "layers": [{"path", "name", "kind"}], "annotations": {…}}; `kind` is one of `KINDS`, `path`
is relative to `root`, `name` is the path that the file gets where the artefact is unpacked.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTEFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
KINDS = ("weight", "weight.config", "doc", "code", "dataset")
_BLOCK = 1 << 20
_LONGEST_HEADER = 100 << 20  # the limit of the safetensors library


def kind_of(name: str) -> str:
    """Tell what a file of a model is from its name."""
    suffix = Path(name).suffix
    if suffix in {".safetensors", ".gguf", ".bin", ".pt", ".npz", ".onnx"}:
        return "weight"
    if suffix in {".md", ".txt", ".pdf"} or Path(name).name.startswith(("LICENSE", "README")):
        return "doc"
    return "weight.config"


def pack(job: Mapping[str, Any], out: Path) -> str:
    """Write the artefact as an OCI archive; returns the manifest's digest (`sha256:…`)."""
    root = Path(job["root"])
    files = [(root / layer["path"], layer) for layer in job["layers"]]
    layers = [_layer(path, layer) for path, layer in files]
    config = _json(_model_config(job, files, layers))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTEFACT_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": _digest(config), "size": len(config)},
            "layers": layers,
            "annotations": dict(sorted(job.get("annotations", {}).items())),
        }
    )
    described = {"mediaType": MANIFEST_TYPE, "artifactType": ARTEFACT_TYPE, "digest": _digest(manifest), "size": len(manifest)}
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [described]}))
        written = set()
        for content in (manifest, config):
            written.add(_digest(content))
            _add(tar, _blob(_digest(content)), content)
        for (path, _), layer in zip(files, layers, strict=True):
            if layer["digest"] not in written:
                written.add(layer["digest"])
                info = _info(_blob(layer["digest"]), layer["size"])
                with path.open("rb") as source:
                    tar.addfile(info, source)
    return _digest(manifest)


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """Read and check the header of a safetensors file; ValueError says what is wrong with it.

    Returns tensor name → {dtype, shape, data_offsets}. Offsets must cover the rest of the file without holes, as the format asks.
    """
    size = path.stat().st_size
    with path.open("rb") as handle:
        head = handle.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise ValueError("it does not begin with the length of a header")
        try:
            header = json.loads(handle.read(length))
        except ValueError as error:
            raise ValueError(f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")  # noqa: TRY004  one kind of error for one kind of bad file
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: _offsets(item[0], item[1])):
        begin, stop = _offsets(name, entry)
        wanted = math.prod(entry["shape"]) * _BITS.get(entry["dtype"], 0) // 8
        if begin != end or (entry["dtype"] in _BITS and stop - begin != wanted):
            raise ValueError(f"tensor {name} has bytes {begin}…{stop} where {end}…{end + wanted} are due")
        end = stop
    if end != size - 8 - length:
        raise ValueError(f"its tensors end at byte {end}, the file {size - 8 - length} bytes after the header")
    return tensors


_BITS = {
    **dict.fromkeys(("F64", "I64", "U64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 8),
}


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    try:
        begin, stop = entry["data_offsets"]
        if not (0 <= begin <= stop and all(side >= 0 for side in entry["shape"]) and entry["dtype"]):
            raise ValueError("negative or missing")
        return int(begin), int(stop)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"tensor {name} has no valid dtype, shape and data_offsets") from error


def _layer(path: Path, layer: Mapping[str, str]) -> dict[str, Any]:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
            size += len(block)
    metadata = {"name": layer["name"], "mode": 0o644, "uid": 0, "gid": 0, "size": size, "mtime": "1980-01-02T00:00:00Z", "typeflag": 48}
    return {
        "mediaType": f"application/vnd.cncf.model.{layer['kind']}.v1.raw",
        "digest": "sha256:" + digest.hexdigest(),
        "size": size,
        "annotations": {
            "org.cncf.model.filepath": layer["name"],
            "org.cncf.model.file.mediatype.untested": "true",
            "org.cncf.model.file.metadata+json": _json(metadata).decode(),
        },
    }


def _model_config(
    job: Mapping[str, Any], files: Sequence[tuple[Path, Mapping[str, str]]], layers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    parameters, types = 0, set()
    for path, layer in files:
        if layer["kind"] == "weight" and path.suffix == ".safetensors":
            for entry in read_safetensors_header(path).values():
                parameters += math.prod(entry["shape"])
                types.add(entry["dtype"].lower())
    model = {"format": "safetensors", "paramSize": _short(parameters), "precision": "+".join(sorted(types))} if parameters else {}
    descriptor = {"name": job["name"], "version": job.get("version", ""), "revision": job.get("revision", "")}
    return {
        "descriptor": {key: value for key, value in descriptor.items() if value},
        "config": model,
        # Raw layers are what they contain, so their diff ids are their digests.
        "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
    }


def _short(count: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_info(name, len(content)), io.BytesIO(content))


if __name__ == "__main__":
    print(pack(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])))
