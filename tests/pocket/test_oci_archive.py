import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from images import make_image, make_layer
from layouts import Image as ForeignImage

from pocket.errors import PocketError
from pocket.oci import archive, media
from pocket.oci.archive import ArchiveError
from pocket.oci.blobs import BlobDir
from pocket.oci.config import ImageConfig
from pocket.oci.image import Image, from_layers
from pocket.oci.layout import LayoutError
from pocket.oci.manifest import Platform


def written(*images: Image, name: str = "") -> bytes:
    out = io.BytesIO()
    archive.write(out, images, name=name)
    return out.getvalue()


def test_an_image_survives_a_round_trip(tmp_path: Path) -> None:
    image = make_image(tmp_path / "1", b"one", b"two")
    archive.export(tmp_path / "i.tar", [image], name="app:1.0")
    assert (tmp_path / "i.tar").stat().st_mode & 0o777 == 0o600
    for name in ("", "1.0", "docker.io/library/app:1.0"):
        got = archive.read(tmp_path / "i.tar", BlobDir(tmp_path / "in"), name=name)
        assert got.manifest_bytes == image.manifest_bytes
        assert got.config == image.config
    got = archive.read(tmp_path / "i.tar", BlobDir(tmp_path / "again"))
    with got.blobs.open(image.manifest.layers[1].digest) as f, image.blobs.open(image.manifest.layers[1].digest) as g:
        assert f.read() == g.read()


def test_the_file_is_an_oci_layout_and_a_docker_archive_and_depends_on_the_image_alone(tmp_path: Path) -> None:
    image = make_image(tmp_path / "1", b"one")
    data = written(image, name="ghcr.io/o/app:1.0")
    assert data == written(image, name="ghcr.io/o/app:1.0")
    (tmp_path / "i.tar").write_bytes(data)
    (tmp_path / "x").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "i.tar", "-C", tmp_path / "x"], check=True)
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["blobs", "index.json", "manifest.json", "oci-layout"]
    (docker,) = json.loads((tmp_path / "x/manifest.json").read_text())
    assert docker["RepoTags"] == ["ghcr.io/o/app:1.0"]
    assert json.loads((tmp_path / "x" / docker["Config"]).read_text())["config"]["Cmd"] == ["sh"]
    assert [(tmp_path / "x" / p).exists() for p in docker["Layers"]] == [True]
    index = json.loads((tmp_path / "x/index.json").read_text())
    assert index["manifests"][0]["annotations"] == {
        "io.containerd.image.name": "ghcr.io/o/app:1.0",
        "org.opencontainers.image.ref.name": "1.0",
    }
    ForeignImage(tmp_path / "x", image.digest, json.loads(image.manifest_bytes), json.loads(image.config_bytes)).unpack(tmp_path / "root")
    assert (tmp_path / "root/file0").read_bytes() == b"one"


def test_platforms_are_nested_in_one_index(tmp_path: Path) -> None:
    amd, arm = make_image(tmp_path / "1", b"amd"), make_image(tmp_path / "2", b"arm", architecture="arm64")
    data = written(amd, arm)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert "manifest.json" not in tar.getnames()
    got = archive.read(io.BytesIO(data), BlobDir(tmp_path / "in"), platform=Platform("linux", "arm64"))
    assert got.digest == arm.digest
    with pytest.raises(PocketError, match="no match for platform linux/s390x"):
        archive.read(io.BytesIO(data), BlobDir(tmp_path / "in"), platform=Platform("linux", "s390x"))


def docker_save(files: dict[str, bytes], links: dict[str, str] | None = None, *, compress: bool = False) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return io.BytesIO(gzip.compress(out.getvalue())) if compress else io.BytesIO(out.getvalue())


@pytest.mark.parametrize("compress", [False, True])
def test_docker_save_is_read(tmp_path: Path, compress: bool) -> None:
    blobs = BlobDir(tmp_path / "made")
    layer, diff_id = make_layer(blobs, "f", b"one", compression="none")
    config = ImageConfig(architecture="amd64", entrypoint=("/e",), diff_ids=(diff_id, diff_id)).to_bytes()
    listed = [{"Config": "abc.json", "RepoTags": ["app:1", "other:2"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    files = {"abc.json": config, "a/layer.tar": blobs.read(layer.digest), "a/VERSION": b"1.0", "manifest.json": json.dumps(listed).encode()}
    for name in ("", "app:1", "docker.io/library/other:2"):
        got = archive.read(docker_save(files, {"b/layer.tar": "../a/layer.tar"}, compress=compress), BlobDir(tmp_path / "in"), name=name)
        assert got.config is not None
        assert got.config.entrypoint == ("/e",)
        assert [d.digest for d in got.manifest.layers] == [diff_id, diff_id]
        assert got.manifest.layers[0].media_type == media.OCI_LAYER
    with pytest.raises(ArchiveError, match="0 images called no"):
        archive.read(docker_save(files), BlobDir(tmp_path / "in"), name="no")
    with pytest.raises(ArchiveError, match=r"does not hold b/layer\.tar"):
        archive.read(docker_save(files), BlobDir(tmp_path / "in"))


def test_damage_and_other_files_are_told(tmp_path: Path) -> None:
    data = written(make_image(tmp_path / "1", b"one"))
    at = data.index(b"\x1f\x8b") + 30
    blobs = BlobDir(tmp_path / "in")
    for bad in (
        data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
        data[: len(data) // 2],
        b"",
        b"hello" * 1000,
        docker_save({"x": b"1"}).getvalue(),
    ):
        with pytest.raises(PocketError) as e:
            archive.read(io.BytesIO(bad), blobs)
        assert e.value.hint
    with pytest.raises(LayoutError, match="no image 'x'"):
        archive.read(io.BytesIO(data), blobs, name="x")
    with pytest.raises(ArchiveError):
        archive.write(io.BytesIO(), [])
    with pytest.raises(PocketError):
        archive.read(docker_save({"blobs/sha256/../../../etc/x": b"1", "manifest.json": b"[]"}), blobs)


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    image = make_image(tmp_path / "1", b"one")
    broken = Image(
        manifest=image.manifest,
        manifest_bytes=image.manifest_bytes,
        config=image.config,
        config_bytes=image.config_bytes,
        blobs=BlobDir(tmp_path / "none"),
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(PocketError, match="missing"):
        archive.export(tmp_path / "out" / "i.tar", [broken])
    assert list((tmp_path / "out").iterdir()) == []


def test_docker_types_make_a_docker_list(tmp_path: Path) -> None:
    base = make_image(tmp_path / "1", b"one")
    assert base.config is not None
    image = from_layers(base.config, base.manifest.layers, base.blobs, docker=True)
    assert image.manifest.media_type == media.DOCKER_MANIFEST
    with tarfile.open(fileobj=io.BytesIO(written(image, image))) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert index["manifests"][0]["mediaType"] == media.DOCKER_INDEX
