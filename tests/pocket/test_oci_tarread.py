import hashlib
import io
import subprocess
import tarfile
import zlib
from pathlib import Path

import pytest
from layers import SHA, f, unpack

from pocket.oci import tarwrite as tw
from pocket.oci.digest import DigestError
from pocket.oci.unpack import LayerError, Limits, unpack_layer
from pocket.store.index import Entry


def test_gnu_and_pax_long_names_and_sparse_files_made_by_tar(tmp_path: Path) -> None:
    src = tmp_path / "src"
    long = src / ("d" * 100) / ("e" * 200)
    long.mkdir(parents=True)
    (long / "f").write_bytes(b"abc")
    (src / "link").symlink_to("t" * 250)
    with (src / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(3 << 20)
        file.write(b"middle")
        file.seek(9 << 20)
        file.truncate()
    want = hashlib.sha256((src / "sparse").read_bytes()).hexdigest()
    for i, form in enumerate(
        (["--format=gnu"], ["--format=pax"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")))
    ):
        made = subprocess.run(["tar", "-cSf-", *form, "-C", src, "."], capture_output=True, check=True).stdout
        assert len(made) < 1 << 20
        got = unpack_layer(io.BytesIO(made), tmp_path / f"u{i}", chown=False, opaque_xattr="user.overlay.opaque")
        assert got.index["sparse"].target == want
        assert got.index["sparse"].size == 9 << 20
        assert (tmp_path / f"u{i}" / "sparse").stat().st_blocks * 512 < 1 << 20
        assert (tmp_path / f"u{i}" / long.relative_to(src) / "f").read_bytes() == b"abc"
        assert got.index["link"].target == "t" * 250


def test_python_archives_of_every_format(tmp_path: Path) -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", format=form) as tar:
            info = tarfile.TarInfo("a/" + "n" * 90)
            info.size, info.mtime = 3, 12.75 if form == tarfile.PAX_FORMAT else 12
            tar.addfile(info, io.BytesIO(b"abc"))
        out.seek(0)
        got = unpack_layer(out, tmp_path / str(form), chown=False, opaque_xattr="user.overlay.opaque")
        assert got.index["a/" + "n" * 90] == Entry("f", 0o644, 0, 0, 3, 12, SHA)


def pax(name: bytes, **records: bytes) -> bytes:
    """Return a file with raw PAX records; `__` stands for a dot."""
    body = tw._extended({k.replace("__", ".").encode(): v for k, v in records.items()})
    return body + f(name)


@pytest.mark.parametrize(
    "part",
    [
        pax(b"x", path=b"a\0b"),
        pax(b"x", size=b"-1"),
        pax(b"x", size=b"9" * 60),
        pax(b"x", size=b"12x"),
        pax(b"x", GNU__sparse__map=b"0,1", GNU__sparse__size=b"3"),
        pax(b"x", GNU__sparse__map=b"5,3,0,0", GNU__sparse__size=b"9"),
        pax(b"x", GNU__sparse__map=b"0,3,4", GNU__sparse__size=b"9"),
        pax(b"x", GNU__sparse__map=b"0,3", GNU__sparse__size=b"99999999999999999"),
        pax(b"x", GNU__sparse__major=b"1", GNU__sparse__realsize=b"9"),
        tw.header(b"././@PaxHeader", kind=b"x", size=1 << 40),
        tw.header(b"././@PaxHeader", kind=b"x", size=8) + b"99 a=b\n".ljust(512, b"\0"),
        tw.header(b"././@LongLink", kind=b"L", size=5000) + b"n" * 5120 + f("x"),
        b"\xff" * 512,
        f("x")[:511] + b"!",
        f("x")[:100],
        f("x", size=1000),
        bytes(512) + f("x"),
    ],
)
def test_damaged_and_hostile_headers_are_refused(tmp_path: Path, part: bytes) -> None:
    with pytest.raises(LayerError) as e:
        unpack(tmp_path / "layer", part, end=b"")
    assert e.value.hint


def test_limits(tmp_path: Path) -> None:
    bomb = zlib.compressobj(9, wbits=31)
    data = bomb.compress(f("zeros", bytes(20 << 20))) + bomb.flush()
    for i, (raw, limits) in enumerate(
        [
            (data, Limits(total=1 << 20)),
            (data, Limits(total=10 << 20)),
            (f("a") + f("b") + f("c"), Limits(members=2)),
            (f("long/name"), Limits(name=5)),
            (pax(b"x", GNU__sparse__map=b"0,3", GNU__sparse__size=b"9999999"), Limits(holes=1 << 20)),
        ]
    ):
        with pytest.raises(LayerError):
            unpack_layer(io.BytesIO(raw), tmp_path / str(i), chown=False, opaque_xattr="user.overlay.opaque", limits=limits)


def test_the_end_may_be_missing_or_padded_and_the_diff_id_covers_all(tmp_path: Path) -> None:
    assert set(unpack(tmp_path / "layer", f("x"), end=b"").index) == {"", "x"}
    assert set(unpack(tmp_path / "p", f("x"), end=tw.END + bytes(8192) + b"junk").index) == {"", "x"}
    assert set(unpack(tmp_path / "e", end=b"").index) == {""}
    with pytest.raises(DigestError, match="sha256:00"):
        unpack(tmp_path / "d", f("x"), expect="sha256:" + "0" * 64)
