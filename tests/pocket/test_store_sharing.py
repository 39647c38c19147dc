"""Several sessions on one cache: records, blobs, locks, leases, collection, and what a kill leaves behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocket.errors import StoreError
from pocket.store import Entry, Layer, Snapshot, Store, keeper
from pocket.tree import ops
from pocket.tree.view import View

TIER = "root" if os.geteuid() == 0 else "single-uid"
KEY = "ab" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with_store = Store.open(root, tier=TIER)
    yield with_store
    with_store.close()


def build(store: Store, data: bytes = b"x", name: str = "f") -> Layer:
    b = store.layer_builder()
    b.write(name, data, Entry("f", 0o644))
    return b.finish()


# --- records and blobs
def test_a_record_counts_while_all_it_names_is_there(store: Store, root: Path) -> None:
    layer, out = build(store), store.blobs.put_bytes(b"said")
    record = {"layers": {"rootfs": [layer.id]}, "stdout": out, "exit": 0}
    store.actions.put(KEY, record)
    assert store.actions.get(KEY) == record
    store.blobs.path(out).unlink()
    other = Store.open(root, tier=TIER)
    assert other.actions.get(KEY) is None
    assert not other.actions.path(KEY).exists()
    other.close()


def test_a_damaged_record_is_none_and_goes(store: Store) -> None:
    store.actions.put(KEY, {"layers": {}})
    store.actions.path(KEY).write_bytes(b"\0\0\0")
    assert store.actions.get(KEY) is None
    assert not store.actions.path(KEY).exists()


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "AB", "ab" * 40])
def test_keys_that_are_no_keys_are_refused(store: Store, key: str) -> None:
    with pytest.raises(StoreError):
        store.actions.get(key)


def test_blobs_are_verified_before_they_are_visible(store: Store, tmp_path: Path) -> None:
    digest = store.blobs.put_bytes(b"data")
    assert (store.blobs.read(digest), store.blobs.path(digest).stat().st_mode & 0o777) == (b"data", 0o444)
    (tmp_path / "f").write_bytes(b"other")
    with pytest.raises(StoreError, match="expected"):
        store.blobs.put_file(tmp_path / "f", expect=digest)
    with pytest.raises(StoreError, match="expected"):
        store.blobs.put_file(tmp_path / "f", size=4)
    named = store.blobs.put_file(tmp_path / "f", size=5)
    with store.blobs.open(named) as f:
        assert f.read() == b"other"
    assert not [p for p in store.tmp_dir.iterdir() if p.name.startswith("blob-")]


@pytest.mark.parametrize("digest", ["sha256:../../x", "sha512:" + "a" * 64, "a" * 64, "sha256:" + "A" * 64, "sha256:" + "a" * 64 + "\n"])
def test_digests_are_judged_before_a_path_is_built(store: Store, digest: str) -> None:
    with pytest.raises(StoreError, match="not a sha256 digest"):
        store.blobs.path(digest)


# --- locks
async def test_one_key_one_holder(store: Store, root: Path) -> None:
    other = Store.open(root, tier=TIER)
    order: list[str] = []
    waited: list[int] = []
    inside, may_end = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with store.key_lock("k"):
            inside.set()
            await may_end.wait()
            order.append("first")

    async def second() -> None:
        await inside.wait()

        def told(pid: int) -> None:
            waited.append(pid)
            may_end.set()

        async with other.key_lock("k", told):
            order.append("second")

    await asyncio.gather(first(), second())
    other.close()
    assert (order, waited) == (["first", "second"], [os.getpid()])


async def test_a_waiter_can_be_cancelled_and_many_get_their_turn(store: Store) -> None:
    running = 0

    async def one() -> None:
        nonlocal running
        async with store.volume_lock("v"):
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            running -= 1

    async with store.volume_lock("v"):
        waiter = asyncio.create_task(one())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    await asyncio.gather(*(one() for _ in range(20)))


HOLDER = """
import asyncio, sys
from pathlib import Path
from pocket.store import Store
async def main():
    store = Store.open(Path(sys.argv[1]), tier="single-uid")
    async with store.key_lock("k"):
        (store.tmp() / "left").mkdir()
        print("held", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_lock_dies_with_its_holder_and_its_files_are_collected(store: Store, root: Path) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, str(root), stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    await child.stdout.readline()
    waiting = asyncio.create_task(_locked(store))
    assert len(list((root / "v1/leases").iterdir())) == 2
    child.kill()
    await child.wait()
    await waiting
    assert store.collect() == 1
    assert [p.name for p in (root / "v1/tmp").iterdir()] == [store.session]
    assert store.collect() == 0


async def _locked(store: Store) -> None:
    async with store.key_lock("k"):
        pass


# --- kill -9 at any instant
WORKER = """
import sys, itertools, hashlib
from pathlib import Path
from pocket.store import Store, SCRATCH, Snapshot
from pocket.tree import ops
store = Store.open(Path(sys.argv[1]), tier=sys.argv[2])
for n in itertools.count():
    layers = ops.write_file(store, SCRATCH, f"d/{n}", b"%d" % n * 500)
    out = store.blobs.put_bytes(b"out %d" % n)
    store.actions.put(hashlib.sha256(b"%d" % n).hexdigest(), {"layers": {"out": [x.id for x in layers]}, "stdout": out, "n": n})
    print(n, flush=True)
"""


def test_no_entry_is_corrupt_after_kills_at_many_moments(root: Path) -> None:
    for moment in range(8):
        child = subprocess.Popen([sys.executable, "-c", WORKER, str(root), TIER], stdout=subprocess.PIPE)
        with child:
            assert child.stdout is not None
            for _ in range(1 + moment * 7):
                child.stdout.readline()
            child.send_signal(signal.SIGKILL)
    store = Store.open(root, tier=TIER)
    seen = 0
    for path in store.actions.all():
        record = json.loads(path.read_bytes())
        got = store.actions.get(path.stem)
        assert got == record
        snapshot = store.snapshot(record["layers"]["out"], "")
        assert snapshot is not None
        view = View(snapshot)
        assert view.read(view.file(f"d/{record['n']}")) == b"%d" % record["n"] * 500
        assert store.blobs.verify(record["stdout"])
        seen += 1
    assert seen >= 40
    assert store.collect() == 8
    store.close()


# --- collection
def test_prune_spares_what_a_session_holds_and_takes_the_oldest_first(store: Store, root: Path) -> None:
    made = [build(store, os.urandom(100_000)) for _ in range(4)]
    held = made[3]
    for n, layer in enumerate(made):
        os.utime(layer.home / "meta.json", (n, n))
        store.actions.put(f"{n:064x}", {"layers": {"out": [layer.id]}})
    blob = store.blobs.put_bytes(b"b" * 50_000)
    store.close()
    other, pruner = Store.open(root, tier=TIER), Store.open(root, tier=TIER)
    assert other.layer(held.id) == held
    os.utime(held.home / "meta.json", (0, 0))
    total = pruner.du().total
    done = pruner.prune(max_bytes=total - 150_000)
    assert [layer.home.exists() for layer in made] == [False, False, True, True]
    assert (done.removed, done.in_use) == (2, 1)
    assert done.freed >= 200_000
    assert "removed 2 entries" in done.describe()
    assert pruner.actions.get(f"{0:064x}") is None
    assert pruner.prune().in_use >= 1
    assert [layer.home.exists() for layer in made] == [False, False, False, True]
    assert not pruner.blobs.has(blob)
    assert (held.path / "f").stat().st_size == 100_000
    other.close()
    pruner.close()


def test_prune_keeps_what_is_recent_and_volumes_unless_asked(store: Store, root: Path) -> None:
    layer = build(store)
    store.volume("cache-me")
    store.close()
    other = Store.open(root, tier=TIER)
    assert other.prune(keep=3600).removed == 0
    assert other.prune().removed == 1
    assert not layer.home.exists()
    assert len(list((root / "v1/volumes").iterdir())) == 1
    assert other.prune(volumes=True).removed == 1
    other.close()


def test_old_records_go(store: Store) -> None:
    store.actions.put(KEY, {"layers": {}})
    os.utime(store.actions.path(KEY), (1, 1))
    store.prune()
    assert not store.actions.path(KEY).exists()


def test_usage_counts_hard_links_once(store: Store) -> None:
    b = store.layer_builder()
    for n in range(2100):
        b.write(f"f{n}", b"x" * 5000, Entry("f", 0o644))
    source = b.finish()
    before = store.du()
    ops.copy_tree(store, Snapshot(), Snapshot((source,)), dest="d")
    after = store.du()
    assert after.layers - before.layers < 2_000_000
    assert after.layer_count == 2
    assert "layers (2)" in after.describe()


# --- housekeeping
def test_the_keeper_collects_and_flushes(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_FIRST", 0.0)
    dead = Store.open(root, tier=TIER)
    os.close(dead._lease_fd)
    build(store)
    flushed = threading.Event()
    flush = store.flush

    def noted() -> None:
        flush()
        flushed.set()

    monkeypatch.setattr(store, "flush", noted)
    store.keep_house()
    assert flushed.wait(60)
    assert not dead.tmp_dir.exists()
    assert store.boot in json.loads((root / "v1/boots.json").read_text())
    assert not store.unflushed
    assert store._keeper is not None
    store.close()
    store._keeper.join(60)
    assert not store._keeper.is_alive()


def test_room_is_made_only_when_the_disk_is_short(store: Store, root: Path) -> None:
    layer = build(store, b"x" * 100_000)
    store.close()
    other = Store.open(root, tier=TIER)
    assert keeper.make_room(other, least_free=0.0, reserved=0, recent=0) == 0
    assert keeper.make_room(other, least_free=2.0, reserved=1 << 40, recent=0) == 0
    assert keeper.make_room(other, least_free=2.0, reserved=0, recent=3600) == 0
    assert layer.home.exists()
    assert keeper.make_room(other, least_free=2.0, reserved=0, recent=0) >= 100_000
    assert not layer.home.exists()
    other.close()


# --- volumes
def test_a_volume_is_seeded_once(store: Store) -> None:
    seed = Snapshot(ops.write_file(store, Snapshot(), "a/b", b"seed", 0o640))
    place = store.volume("v/../id", seed=seed)
    assert (place / "a/b").read_bytes() == b"seed"
    assert (place / "a/b").stat().st_mode & 0o777 == 0o640
    (place / "a/b").write_bytes(b"mine")
    assert seed.layers[0].path.joinpath("a/b").read_bytes() == b"seed"
    assert store.volume("v/../id", seed=seed) == place
    assert (place / "a/b").read_bytes() == b"mine"
    assert place.is_relative_to(store.root)


# --- places that cannot be used
def test_collecting_is_safe_beside_a_session_that_opens(root: Path) -> None:
    stores = []
    for _ in range(20):
        stores.append(Store.open(root, tier=TIER))
        stores[0].collect()
    assert all(s.tmp().exists() for s in stores)
    for s in stores:
        s.close()
