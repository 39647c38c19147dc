"""Layers: built, published by a rename, found again, verified after a power cut."""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import folder, in_tier, tiers

from pocket.errors import StoreError
from pocket.store import Entry, Layer, Store
from pocket.store import layer as layers
from pocket.tree import ops

TIER = "root" if os.geteuid() == 0 else "single-uid"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with_store = Store.open(tmp_path / "cache", tier=TIER)
    yield with_store
    with_store.close()


def build(store: Store, **files: bytes) -> Layer:
    b = store.layer_builder()
    for name, data in files.items():
        b.write(name.replace("_", "/"), data, Entry("f", 0o640, mtime=7))
    return b.finish()


def test_a_layer_is_found_again_by_another_session(store: Store, tmp_path: Path) -> None:
    made = build(store, a_b=b"hello")
    other = Store.open(tmp_path / "cache", tier=TIER)
    found = other.layer(made.id)
    other.close()
    assert found == made
    assert found is not None
    assert found.index() == made.index()
    entry = found.entry("a/b")
    assert entry == Entry("f", 0o640, 0, 0, 5, 7, hashlib.sha256(b"hello").hexdigest())
    assert (found.path / "a/b").read_bytes() == b"hello"
    st = (found.path / "a/b").stat()
    assert (st.st_mode & 0o7777, int(st.st_mtime)) == (0o640, 7)


def test_nothing_is_visible_before_finish(store: Store) -> None:
    b = store.layer_builder()
    b.write("f", io.BytesIO(b"x" * 3_000_000), Entry("f", 0o644))
    assert list(store.layers_dir.iterdir()) == []
    assert b.finish().bytes == 3_000_000
    assert len(list(store.layers_dir.iterdir())) == 1


def test_every_kind_of_path(store: Store) -> None:
    b = store.layer_builder()
    b.add("d", Entry("d", 0o700, opaque=True))
    b.add("d/link", Entry("l", 0o777, target="../x"))
    b.add("d/pipe", Entry("p", 0o600))
    b.add("d/null", Entry("c", 0o666, target="1:3"))
    if os.geteuid() == 0:
        b.add("gone", Entry("w", 0))
    with pytest.raises(StoreError, match="no source"):
        b.add("f", Entry("f", 0o644))
    layer = b.finish()
    assert not (layer.path / "d/null").exists()
    assert (layer.path / "d").stat().st_mode & 0o777 == 0o700
    assert layer.hides == (2 if os.geteuid() == 0 else 1)


def test_a_closed_directory_still_takes_its_content(store: Store) -> None:
    b = store.layer_builder()
    b.mkdir("shut", Entry("d", 0o500, mtime=3))
    b.write("shut/f", b"1", Entry("f", 0o400))
    layer = b.finish()
    assert int((layer.path / "shut").stat().st_mtime) == 3


def test_a_link_across_file_systems_becomes_a_copy(store: Store) -> None:
    source = Path("/dev/shm") / f"pocket-test-{os.getpid()}"
    source.write_bytes(b"far")
    try:
        b = store.layer_builder()
        b.add_file("f", source, Entry("f", 0o600, size=3, target=hashlib.sha256(b"far").hexdigest()))
        layer = b.finish()
    finally:
        source.unlink()
    assert (layer.path / "f").read_bytes() == b"far"


def test_a_moved_layer_shares_files_and_index(store: Store) -> None:
    b = store.layer_builder()
    for n in range(2100):
        b.write(f"d{n % 7}/f{n}", b"%d" % n, Entry("f", 0o644))
    b.symlink("d0/l", "f0")
    source = b.finish()
    from pocket.store import SCRATCH, Snapshot

    (moved,) = ops.copy_tree(store, SCRATCH, Snapshot((source,)), dest="/x/y")
    assert moved.prefix == "x/y"
    assert (moved.home / "index.json").samefile(source.home / "index.json")
    assert (moved.path / "x/y/d1/f1").samefile(source.path / "d1/f1")
    assert moved.entry("x/y/d1/f1") == source.entry("d1/f1")
    assert moved.entry("x") == Entry("d", 0o755)
    assert moved.entry("d1/f1") is None
    assert set(moved.index()) == {"", "x"} | {("x/y/" + p).rstrip("/") for p in source.index()}
    assert ops.copy_tree(store, SCRATCH, Snapshot((source,)), dest="/x/y") == (moved,)
    (again,) = ops.copy_tree(store, SCRATCH, Snapshot((moved,)), dest="z")
    assert again.entry("z/x/y/d1/f1") == source.entry("d1/f1")


def test_large_indexes_do_not_pile_up_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_CACHED_ENTRIES", 10)
    monkeypatch.setattr(layers, "_CACHE", layers._Cache())
    made = [build(store, a=b"1", b=b"2", c=b"3", d=bytes([n])) for n in range(5)]
    assert layers._CACHE._total <= 10
    assert [len(layer.index()) for layer in made] == [5] * 5


@pytest.mark.parametrize("damage", ["content", "missing", "meta"])
def test_what_a_power_cut_damaged_is_not_used(store: Store, tmp_path: Path, damage: str) -> None:
    good, bad = build(store, f=b"good"), build(store, f=b"evil", g=b"g")
    for layer in (good, bad):
        meta = json.loads((layer.home / "meta.json").read_text())
        (layer.home / "meta.json").write_text(json.dumps(meta | {"boot": "an earlier one"}))
    place = bad.path / "f"
    match damage:
        case "content":
            place.chmod(0o600)
            place.write_bytes(b"\0\0\0\0")
        case "missing":
            place.unlink()
        case _:
            (bad.home / "meta.json").write_bytes(b"\0" * 100)
    other = Store.open(tmp_path / "cache", tier=TIER)
    assert other.layer(bad.id) is None
    assert not bad.home.exists()
    assert other.layer(good.id) == good
    assert json.loads((good.home / "meta.json").read_text())["boot"] == other.boot
    other.close()


def test_what_was_flushed_before_a_power_cut_is_believed(store: Store, tmp_path: Path) -> None:
    layer = build(store, f=b"x")
    blob = store.blobs.put_bytes(b"y")
    store.flush()
    boots = json.loads((store.root / "boots.json").read_text())
    (store.root / "boots.json").write_text(json.dumps({"earlier": boots[store.boot]}))
    meta = json.loads((layer.home / "meta.json").read_text())
    (layer.home / "meta.json").write_text(json.dumps(meta | {"boot": "earlier"}))
    other = Store.open(tmp_path / "cache", tier=TIER)
    assert other.layer(layer.id) == layer
    other._booted += 10**9
    os.utime(other.blobs.path(blob), (1, boots[store.boot]["flushed"] - 1))
    assert other._whole([], [blob])
    os.utime(other.blobs.path(blob), (1, 1))
    other._leased.clear()
    assert other._whole([], [blob])  # read, and found good
    other.blobs.path(blob).chmod(0o600)
    other.blobs.path(blob).write_bytes(b"Z")
    os.utime(other.blobs.path(blob), (1, 1))
    other._leased.clear()
    assert not other._whole([], [blob])
    other.close()


@pytest.mark.parametrize("tier", tiers())
def test_owners_on_disk_are_those_of_the_tier(tier: str) -> None:
    def body() -> tuple[int, int, int, int]:
        store = Store.open(Path(where), tier=tier)
        b = store.layer_builder()
        b.write("f", b"1", Entry("f", 0o4755, 33, 34))
        if tier == "subuid":
            b.write("far", b"1", Entry("f", 0o644, 900_000, 1))  # beyond the range: recorded only
        layer = b.finish()
        st = (layer.path / "f").stat()
        e = layer.entry("f")
        assert e is not None
        store.close()
        assert st.st_mode & 0o7777 == 0o4755
        return st.st_uid, st.st_gid, e.uid, e.gid

    with folder(tier) as where:
        uid, gid, true_uid, true_gid = in_tier(tier, body)
    assert (true_uid, true_gid) == (33, 34)
    assert (uid, gid) == ((0, 0) if tier == "single-uid" else (33, 34))
