import contextlib
import io
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from images import make_image
from layouts import Image as ForeignImage

from pocket.errors import PocketError
from pocket.oci import digest as dg
from pocket.oci.blobs import BlobDir, BlobError
from pocket.oci.layout import Layout, LayoutError
from pocket.oci.manifest import Descriptor, Platform


def test_what_was_put_is_found_by_name(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    one, two = make_image(tmp_path / "1", b"one"), make_image(tmp_path / "2", b"two", b"more")
    layout.put(one, "v1")
    assert layout.get().digest == one.digest
    layout.put(two, "v2")
    assert layout.get("v1").manifest_bytes == one.manifest_bytes
    assert layout.get("v2").config == two.config
    layout.put(two, "v1")
    assert layout.get("v1").digest == two.digest
    assert len(layout.index().manifests) == 2
    with pytest.raises(LayoutError, match="no image 'v3'") as e:
        layout.get("v3")
    assert "v1, v2" in e.value.hint
    with pytest.raises(LayoutError, match="holds 2 images"):
        layout.get()
    assert sorted(p.name for p in (tmp_path / "layout").iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_another_reader_agrees(tmp_path: Path) -> None:
    image = make_image(tmp_path / "1", b"one", b"two")
    Layout(tmp_path / "layout").put(image, "v1")
    foreign = ForeignImage(tmp_path / "layout", image.digest, json.loads(image.manifest_bytes), json.loads(image.config_bytes))
    foreign.unpack(tmp_path / "root")
    assert (tmp_path / "root" / "file1").read_bytes() == b"two"


def test_platforms_of_one_name(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    amd, arm = make_image(tmp_path / "1", b"amd"), make_image(tmp_path / "2", b"arm", architecture="arm64")
    layout.put_index([amd, arm], "both")
    assert layout.get("both", platform=Platform("linux", "arm64")).digest == arm.digest
    assert layout.get(platform=Platform("linux", "amd64")).digest == amd.digest


def _put(args: tuple[str, int]) -> None:
    directory, n = args
    Layout(Path(directory) / "layout").put(make_image(Path(directory) / str(n), bytes([n]) * 1000), f"v{n}")


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_put, [(str(tmp_path), n) for n in range(12)]))
    layout = Layout(tmp_path / "layout")
    assert {n for d in layout.index().manifests for n in d.annotations.values()} == {f"v{n}" for n in range(12)}
    for n in range(12):
        layout.get(f"v{n}")


def test_what_is_no_layout_is_told(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="oci-layout is missing"):
        Layout(tmp_path).get()
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"9"}')
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    with pytest.raises(LayoutError, match="unknown version"):
        Layout(tmp_path).get()
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(PocketError):
        Layout(tmp_path).put(make_image(tmp_path / "x", b"1"), "v")


def test_blobs_appear_whole_and_verified_or_not_at_all(tmp_path: Path) -> None:
    blobs = BlobDir(tmp_path)
    data = b"0123456789"
    want = Descriptor(media_type="", digest=dg.of_bytes(data), size=10)
    for bad in (b"012345678", b"0123456789x", b"9876543210"):
        with pytest.raises(PocketError):
            blobs.put(io.BytesIO(bad), want=want)
    with contextlib.suppress(KeyError), blobs.writer(want) as w:
        w.write(data)
        raise KeyError
    assert list((tmp_path / "sha256").iterdir()) == []
    assert not blobs.has(want.digest)
    assert blobs.put(io.BytesIO(data), want=want) == want.digest == blobs.put_bytes(data)
    assert blobs.path(want.digest).stat().st_mode & 0o777 == 0o444
    assert blobs.read(want.digest) == data
    with pytest.raises(BlobError, match="missing"):
        blobs.open("sha256:" + "0" * 64)
    with pytest.raises(PocketError):
        blobs.path("sha256:../../etc/passwd")


def test_a_damaged_blob_is_found_when_it_is_read(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    image = make_image(tmp_path / "1", b"one")
    layout.put(image)
    path = layout.blobs.path(image.manifest.config.digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"A=1", b"A=2"))
    with pytest.raises(dg.DigestError):
        layout.get()
