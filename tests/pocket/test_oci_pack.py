import base64
import hashlib
import io
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket.oci.compress import Compression, CompressionError, decompressed
from pocket.oci.pack import PackError, pack_layer
from pocket.oci.tarwrite import FILE, header, padding
from pocket.oci.unpack import unpack_layer
from pocket.store.index import Entry, Index

CONTENT = b"content"
F = Entry("f", 0o644, 0, 0, len(CONTENT), 5, hashlib.sha256(CONTENT).hexdigest())


def content(_: str) -> io.BytesIO:
    return io.BytesIO(CONTENT)


def packed(index: Index, **options: object) -> bytes:
    out = io.BytesIO()
    options.setdefault("compression", "none")
    done = pack_layer(index, content, out, **options)  # type: ignore[arg-type]
    assert done.size == len(out.getvalue())
    assert done.digest == "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()
    return out.getvalue()


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getmembers()


def test_members_are_sorted_bytewise_and_carry_what_the_index_says() -> None:
    index = {
        "": Entry("d", 0o755),
        "b": Entry("d", 0o1777, 7, 8, 0, 3),
        "b/f": F._replace(mode=0o4755, uid=1000, gid=99),
        "b-": F,
        "a": Entry("l", 0o777, 0, 0, 0, 0, "/target"),
        "c": Entry("c", 0o660, 0, 6, 0, 0, "8:1"),
        "p": Entry("p", 0o600),
    }
    found = members(packed(index))
    assert [(m.name, m.type, m.mode, m.uid, m.gid, m.size, m.mtime) for m in found] == [
        ("a", b"2", 0o777, 0, 0, 0, 0),
        ("b", b"5", 0o1777, 7, 8, 0, 3),
        ("b-", b"0", 0o644, 0, 0, 7, 5),
        ("b/f", b"0", 0o4755, 1000, 99, 7, 5),
        ("c", b"3", 0o660, 0, 6, 0, 0),
        ("p", b"6", 0o600, 0, 0, 0, 0),
    ]
    assert found[0].linkname == "/target"
    assert (found[4].devmajor, found[4].devminor) == (8, 1)
    assert all(m.uname == m.gname == "" for m in found)


def test_deletions_take_their_wh_form() -> None:
    index = {"": Entry("d", 0o755), "a": Entry("d", 0o755, opaque=True), "b": Entry("d", 0o755), "b/x": Entry("w", 0), "y": Entry("w", 0)}
    assert [m.name for m in members(packed(index))] == ["a", "a/.wh..wh..opq", "b", "b/.wh.x", ".wh.y"]


def test_the_root_is_written_only_when_it_differs() -> None:
    assert members(packed({"": Entry("d", 0o755, mtime=7)})) == []
    assert [m.mode for m in members(packed({"": Entry("d", 0o700)}))] == [0o700]
    assert [m.name for m in members(packed({"": Entry("d", 0o755, opaque=True)}))] == [".", ".wh..wh..opq"]


def test_long_and_odd_names_large_numbers_and_attributes_go_into_pax_records() -> None:
    value = bytes(range(256))
    index = {
        "d" * 120 + "/" + "e" * 120: F,
        "x" * 90 + "/" + "y" * 90: F,
        "ü\udcff": F._replace(xattrs=(("security.capability", base64.b64encode(value).decode()),)),
        "l": Entry("l", 0o777, 3_000_000, 4_000_000_000, 0, -5, "t" * 300),
    }
    data = packed(index)
    found = {m.name: m for m in members(data)}
    assert set(found) == set(index)
    assert found["l"].linkname == "t" * 300
    assert (found["l"].uid, found["l"].gid, found["l"].mtime) == (3_000_000, 4_000_000_000, -5)
    assert b"SCHILY.xattr.security.capability=" + value in data
    assert found["x" * 90 + "/" + "y" * 90].pax_headers == {}


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_the_bytes_depend_on_the_index_alone(kind: Compression) -> None:
    if kind == "zstd":
        pytest.importorskip("zstandard")
    index = {f"d/{i}": F for i in range(50)}
    backwards = dict(reversed(index.items()))
    assert packed(index, compression=kind) == packed(backwards, compression=kind)


def test_gzip_is_what_every_gzip_reads(tmp_path: Path) -> None:
    gz = packed({"d": F}, compression="gzip")
    assert gz[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    (tmp_path / "l.gz").write_bytes(gz)
    assert subprocess.run(["gzip", "-dc", tmp_path / "l.gz"], capture_output=True, check=True).stdout == packed({"d": F})


def test_times_can_be_clamped() -> None:
    assert [m.mtime for m in members(packed({"a": F, "b": F._replace(mtime=50)}, latest=20))] == [5, 20]


def test_files_of_one_inode_stay_hard_links_unless_their_attributes_differ(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    for name in "bc":
        (tmp_path / name).hardlink_to(tmp_path / "a")
    out = io.BytesIO()
    pack_layer({"a": F, "b": F, "c": F._replace(uid=5)}, lambda p: tmp_path / p, out, compression="none")
    assert [(m.name, m.type, m.linkname) for m in members(out.getvalue())] == [("a", b"0", ""), ("b", b"1", "a"), ("c", b"0", "")]


def test_a_file_that_changed_is_an_error(tmp_path: Path) -> None:
    for size in (3, 99):
        with pytest.raises(PackError, match="bytes that its entry says"):
            packed({"a": F._replace(size=size)})
    (tmp_path / "l").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        pack_layer({"a": F}, lambda _: tmp_path / "l", io.BytesIO(), compression="none")


def test_names_that_mean_a_deletion_are_refused() -> None:
    for name in (".wh.x", "a/.wh.x", "a/.wh./b"):
        with pytest.raises(PackError, match="mean a deletion"):
            packed({name: F})


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_large_content_survives_every_compression(tmp_path: Path, kind: Compression) -> None:
    if kind == "zstd":
        pytest.importorskip("zstandard")
    data = b"".join(hashlib.sha256(bytes([i % 251, i // 251])).digest() * 40 for i in range(3000)) + bytes(3_000_000)
    index = {"big": F._replace(size=len(data))}
    out = io.BytesIO()
    done = pack_layer(index, lambda _: io.BytesIO(data), out, compression=kind)
    assert done.diff_id == pack_layer(index, lambda _: io.BytesIO(data), io.BytesIO(), compression="none").diff_id
    out.seek(0)
    got = unpack_layer(out, tmp_path / "layer", chown=False, opaque_xattr="user.overlay.opaque", expect=done.diff_id)
    assert got.index["big"].target == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "layer" / "big").read_bytes() == data


def test_what_does_not_shrink_is_stored_between_what_does(tmp_path: Path) -> None:
    noise = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(100_000))
    data = bytes(2_000_000) + noise + bytes(1_500_000) + noise[::-1]
    out = tmp_path / "layer.tar.gz"
    with out.open("wb") as f:
        pack_layer({"big": F._replace(size=len(data))}, lambda _: io.BytesIO(data), f, compression="gzip")
    assert 2 * len(noise) < out.stat().st_size < 2.02 * len(noise)
    whole = subprocess.run(["gzip", "-dc", str(out)], check=True, capture_output=True).stdout  # another reader than our own
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        file = tar.extractfile("big")
        assert file is not None
        assert file.read() == data


@pytest.mark.parametrize("reader", ["isal", "zlib"])
def test_multi_member_and_padded_gzip_is_read_and_damage_is_not(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if reader == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)
    one, two = (zlib.compressobj(1, wbits=31) for _ in range(2))
    data = one.compress(b"a" * 5000) + one.flush() + two.compress(b"b" * 5000) + two.flush()
    assert b"".join(decompressed(io.BytesIO(data))) == b"a" * 5000 + b"b" * 5000
    assert b"".join(decompressed(io.BytesIO(data + bytes(600)))) == b"a" * 5000 + b"b" * 5000
    for bad in (data[:-4], data[:20], data + b"junk", data[:40] + bytes([data[40] ^ 1]) + data[41:], b"BZh91AY", b"\xfd7zXZ\0\0\0"):
        with pytest.raises(CompressionError):
            list(decompressed(io.BytesIO(bad)))


@given(
    name=st.binary(min_size=1, max_size=300).filter(lambda b: b"\0" not in b and not b.endswith(b"/")),
    mode=st.integers(0, 0o7777),
    ids=st.tuples(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2)),
    mtime=st.integers(-(2**33), 2**36),
)
@settings(max_examples=150)
def test_python_reads_every_header_as_it_was_meant(name: bytes, mode: int, ids: tuple[int, int], mtime: int) -> None:
    data = header(name, kind=FILE, mode=mode, uid=ids[0], gid=ids[1], size=3, mtime=mtime) + b"abc" + padding(3) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as tar:
        (m,) = tar.getmembers()
        assert m.name.encode(errors="surrogateescape") == name
        assert (m.mode, m.uid, m.gid, m.size, m.mtime) == (mode, *ids, 3, mtime)
        body = tar.extractfile(m)
        assert body is not None
        assert body.read() == b"abc"
