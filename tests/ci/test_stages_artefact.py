"""The model artefact: ModelPack media types, one layer per file, the same bytes every time, readable by the registry client."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ci import artefact
from pocket.oci import archive
from pocket.oci.blobs import BlobDir


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    header = json.dumps(
        {
            "w": {"dtype": "BF16", "shape": [600, 2], "data_offsets": [0, 2400]},
            "b": {"dtype": "F32", "shape": [], "data_offsets": [2400, 2404]},
        }
    ).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2404))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "copy.json").write_text("{}")
    layers = [{"path": name, "name": name, "kind": artefact.kind_of(name)} for name in ("model.safetensors", "config.json", "copy.json")]
    return {"name": "tiny", "revision": "a" * 40, "root": str(tmp_path), "layers": layers, "annotations": {"z": "1", "a": "2"}}


def test_is_a_modelpack_artefact(job: dict[str, Any], tmp_path: Path) -> None:
    digest = artefact.pack(job, tmp_path / "out.tar")
    image = archive.read(tmp_path / "out.tar", BlobDir(tmp_path / "blobs"))
    assert image.digest == digest
    assert image.manifest.artifact_type == "application/vnd.cncf.model.manifest.v1+json"
    assert image.manifest.config.media_type == "application/vnd.cncf.model.config.v1+json"
    assert [layer.media_type for layer in image.manifest.layers] == [
        "application/vnd.cncf.model.weight.v1.raw",
        "application/vnd.cncf.model.weight.config.v1.raw",
        "application/vnd.cncf.model.weight.config.v1.raw",
    ]
    assert [layer.annotations["org.cncf.model.filepath"] for layer in image.manifest.layers] == [
        "model.safetensors",
        "config.json",
        "copy.json",
    ]
    config = json.loads(image.config_bytes)
    assert config["descriptor"] == {"name": "tiny", "revision": "a" * 40}
    assert config["config"] == {"format": "safetensors", "paramSize": "1.2K", "precision": "bf16+f32"}
    assert config["modelfs"]["diffIds"] == [layer.digest for layer in image.manifest.layers]


def test_layers_are_the_files_themselves(job: dict[str, Any], tmp_path: Path) -> None:
    artefact.pack(job, tmp_path / "out.tar")
    blobs = BlobDir(tmp_path / "blobs")
    image = archive.read(tmp_path / "out.tar", blobs)
    weights = (tmp_path / "model.safetensors").read_bytes()
    assert blobs.read(image.manifest.layers[0].digest) == weights
    assert image.manifest.layers[0].digest == "sha256:" + hashlib.sha256(weights).hexdigest()


def test_same_files_same_bytes(job: dict[str, Any], tmp_path: Path) -> None:
    first = artefact.pack(job, tmp_path / "one.tar")
    job["annotations"] = dict(reversed(job["annotations"].items()))
    assert artefact.pack(job, tmp_path / "two.tar") == first
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


@pytest.mark.parametrize(("count", "short"), [(7, "7"), (207_424, "207.4K"), (1_500_000, "1.5M"), (30_532_122_624, "30.5B")])
def test_parameter_counts_are_written_as_people_write_them(count: int, short: str) -> None:
    assert artefact._short(count) == short


def test_kinds() -> None:
    assert [artefact.kind_of(name) for name in ("a/model.gguf", "README.md", "LICENSE", "tokenizer.json", "merges.model")] == [
        "weight",
        "doc",
        "doc",
        "weight.config",
        "weight.config",
    ]
