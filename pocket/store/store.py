"""The cache directory: opens it, hands out layers, records, blobs, locks and volumes, and knows which of them are whole.

Nothing is fsynced one by one. A rename makes things visible, so a killed process leaves no half-written entry: the page cache
survives it. A power cut is met otherwise: each boot notes up to when the file system was flushed, and what was written after
that in an earlier boot is verified against its digests before it is used again.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pocket.errors import StoreError
from pocket.store import disk, locks
from pocket.store.actions import Actions
from pocket.store.blobs import Blobs
from pocket.store.builder import LayerBuilder
from pocket.store.index import Entry
from pocket.store.layer import Layer, Snapshot

if TYPE_CHECKING:
    from pocket.sandbox.record import Note
    from pocket.store.collect import Pruned, Usage
    from pocket.store.keeper import Keeper

VERSION = "v1"
P = ParamSpec("P")
T = TypeVar("T")
_MADE: ContextVar[list[Path] | None] = ContextVar("made", default=None)
_FOLDERS = ("layers", "actions", "blobs/sha256", "locks", "volumes", "host", "tmp", "leases")


def default_root() -> Path:
    """Return the cache directory that the environment asks for."""
    if own := os.environ.get("POCKET_CACHE"):
        return Path(own)
    if shared := os.environ.get("WEIGHBRIDGE_CACHE"):
        return Path(shared, "pocket")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "weighbridge", "pocket")


class Store:
    """One session's handle on the cache directory."""

    def __init__(self, root: Path, tier: str, lease: int, session: str) -> None:
        self.root, self.tier, self.session = root, tier, session
        self._lease_fd, self._leased, self._guard = lease, set[str](), threading.Lock()
        self._layers: dict[str, Layer] = {}
        self.layers_dir, self.tmp_dir = root / "layers", root / "tmp" / session
        self.tmp_dir.mkdir()
        self.boot = _boot_id()
        self.blobs = Blobs(root / "blobs" / "sha256", self.tmp_dir)
        self.actions = Actions(root / "actions", self.tmp_dir, self._whole)
        self._flushed = _read_boots(root)
        self.unflushed = True  # an earlier session may have ended before its last flush
        self._keeper: Keeper | None = None
        self._booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    @classmethod
    def open(cls, root: Path, *, tier: str) -> "Store":
        """Open (or make) the cache at `root`. StoreError with a hint when the place cannot be used."""
        home = Path(os.path.abspath(root), VERSION)
        try:
            for name in _FOLDERS:
                (home / name).mkdir(parents=True, exist_ok=True)
            _refuse_network(home)
            session = os.urandom(6).hex()
            # Named last: a collector must never see a lease file that is not locked yet.
            temp = home / "tmp" / f"lease-{session}"
            fd = locks.take(temp)
            if fd is None:
                raise StoreError(f"cannot lock {temp}")
            os.write(fd, b"%d\n" % os.getpid())
            os.rename(temp, home / "leases" / session)
            return cls(home, tier, fd, session)
        except OSError as e:
            advice = "set WEIGHBRIDGE_CACHE to a directory of your own on a local disk"
            raise disk.explain(e, f"use the cache directory {root}", otherwise=advice) from e

    def close(self) -> None:
        """Give up the leases and remove this session's temporary files."""
        if self._lease_fd < 0:
            return
        if self._keeper is not None:
            self._keeper.end()
        disk.remove_tree(self.tmp_dir)
        (self.root / "leases" / self.session).unlink(missing_ok=True)
        os.close(self._lease_fd)
        self._lease_fd = -1

    def keep_house(self) -> None:
        """Start the housekeeping thread. Not before the last fork: a forkserver must have one thread."""
        from pocket.store.keeper import Keeper

        self._keeper = Keeper(self)
        self._keeper.start()

    def tmp(self) -> Path:
        """Return a fresh directory on the same file system; it vanishes with the session at the latest."""
        path = self.tmp_dir / os.urandom(6).hex()
        try:
            path.mkdir()
        except OSError as e:
            raise disk.explain(e, "make a temporary directory in the cache") from e
        if (made := _MADE.get()) is not None:
            made.append(path)
        return path

    @staticmethod
    def tidily(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function; when it fails, remove the temporary directories that it made, which may be what fills the disk."""
        made: list[Path] = []
        token = _MADE.set(made)
        try:
            return call(*args, **kwargs)
        except BaseException:
            for path in made:
                with contextlib.suppress(OSError):
                    disk.discard(path)
            raise
        finally:
            _MADE.reset(token)

    # --- layers
    def layer(self, name: str) -> Layer | None:
        """Return a committed layer, pinned for this session, or None when it is gone or damaged."""
        if self._whole([name], []):
            return self._layers[name]
        return None

    def layer_builder(self) -> LayerBuilder:
        """Return a builder for a new layer."""
        return LayerBuilder(self, self.tmp())

    def reserve(self) -> str:
        """Return a fresh layer id, pinned before anything has that name."""
        name = os.urandom(6).hex()
        with self._guard:
            self._pin([name])
        self.unflushed = True
        return name

    def adopt(self, layer: Layer) -> Layer:
        """Take note of a layer that this session made."""
        self._layers[layer.id] = layer
        return layer

    def make_upper(self, path: Path, lower: Snapshot) -> Path:
        """Make the upper directory of a mount. It is the mount's root, so it gets the attributes of what lies below."""
        path.mkdir()
        entry = lower.top.entry("") if lower.top is not None else None
        disk.set_attributes(str(path), entry or Entry("d", 0o755), tier=self.tier)
        return path

    @disk.told("commit what a step wrote to the cache")
    def commit_upper(
        self,
        upper: Path,
        lower: Snapshot,
        *,
        drop: Iterable[str] = (),
        owner: tuple[int, int] | None = None,
        notes: "Iterable[Note]" = (),
    ) -> Layer | None:
        """Turn an overlay's upper directory into a layer; None when it holds no change. The directory is gone afterwards.

        owner, notes: who made it and what was given to others, where the disk cannot show owners.
        """
        from pocket.tree.commit import commit
        from pocket.tree.ownership import Ownership

        return commit(self, upper, lower, drop=frozenset(drop), ownership=Ownership(owner or (0, 0), notes))

    def snapshot(self, ids: Iterable[str], key: str) -> Snapshot | None:
        """Return the snapshot of some layer ids, or None when one of them is gone."""
        names = list(ids)
        if not self._whole(names, []):
            return None
        return Snapshot(tuple(self._layers[n] for n in names), key)

    # --- what is whole
    def _whole(self, layers: list[str], blobs: list[str]) -> bool:
        fresh = [n for n in layers if n not in self._layers]
        unseen = [b for b in blobs if b not in self._leased]
        if not fresh and not unseen:
            return True
        with self._guard, locks.held(self.root / "collect.lock", shared=True):
            self._pin(fresh + unseen)
            return all(map(self._load, fresh)) and all(map(self._check_blob, unseen))

    def _pin(self, names: list[str]) -> None:
        new = [n for n in names if n not in self._leased]
        if new:
            os.write(self._lease_fd, "".join(f"{n}\n" for n in new).encode())
            self._leased.update(new)

    def _load(self, name: str) -> bool:
        home = self.layers_dir / name
        if not name.isalnum():
            return False
        try:
            meta = json.loads((home / "meta.json").read_bytes())
            layer = Layer.load(home)
            if not self._settled(meta.get("boot", ""), meta.get("time", 0.0)):
                self._verified(layer, meta)
            os.utime(home / "meta.json")
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError):
            with contextlib.suppress(OSError):
                os.rename(home, self.tmp_dir / f"damaged-{name}")
            return False
        self._layers[name] = layer
        return True

    def _verified(self, layer: Layer, meta: dict[str, Any]) -> None:
        """Read a layer from before the last power cut; what is whole need not be read again. ValueError when it is damaged."""
        try:
            good = _verify(layer)
        except FileNotFoundError:
            good = False
        if not good:
            raise ValueError("damaged")
        temp = self.tmp_dir / f"meta-{layer.id}"
        temp.write_text(json.dumps(meta | {"boot": self.boot, "time": time.time()}))
        os.rename(temp, layer.home / "meta.json")

    def _check_blob(self, digest: str) -> bool:
        path = self.blobs.path(digest)
        try:
            st = path.stat()
        except OSError:
            return False
        if st.st_mtime < self._booted and not any(b["start"] <= st.st_mtime <= b["flushed"] for b in self._flushed.values()):
            return self.blobs.verify(digest)
        os.utime(path, (time.time(), st.st_mtime))
        return True

    def _settled(self, boot: str, when: float) -> bool:
        return boot == self.boot or when <= self._flushed.get(boot, {}).get("flushed", 0.0)

    def flush(self) -> None:
        """Make everything committed so far survive a power cut. Takes as long as the disk needs: call it from a thread."""
        now = time.time()
        self.unflushed = False
        disk.syncfs(self.root)
        with locks.held(self.root / "collect.lock"):
            boots = _read_boots(self.root)
            mine = boots.pop(self.boot, {"start": self._booted, "flushed": 0.0})
            mine["flushed"] = max(mine["flushed"], now)
            boots[self.boot] = mine
            temp = self.tmp_dir / "boots"
            temp.write_text(json.dumps(dict(list(boots.items())[-50:])))
            os.rename(temp, self.root / "boots.json")
        self._flushed = boots

    # --- between processes
    def key_lock(self, key: str, on_wait: Callable[[int], None] | None = None) -> AbstractAsyncContextManager[None]:
        """Hold the right to carry out one operation; `on_wait` is told the pid that is waited for."""
        return locks.waiting(self.root / "locks" / _safe(key), on_wait)

    def volume_lock(self, ident: str, on_wait: Callable[[int], None] | None = None) -> AbstractAsyncContextManager[None]:
        """Hold a cache volume alone (sharing LOCKED and PRIVATE)."""
        return locks.waiting(self.root / "locks" / f"volume-{_safe(ident)}", on_wait)

    def volume(self, ident: str, *, seed: Snapshot | None = None) -> Path:
        """Return the directory of a cache volume, made and seeded when it is new."""
        name = _safe(ident)
        home = self.root / "volumes" / name
        if not home.exists():
            with locks.held(self.root / "locks" / f"seed-{name}"):
                if not home.exists():
                    self._make_volume(home, ident, seed)
        with self._guard:
            self._pin([f"volume-{name}"])
        os.utime(home)
        return home / "fs"

    def _make_volume(self, home: Path, ident: str, seed: Snapshot | None) -> None:
        temp = self.tmp()
        (temp / "fs").mkdir()
        os.chmod(temp / "fs", 0o755)
        if seed is not None:
            from pocket.tree.export import unpack

            unpack(seed, str(temp / "fs"), tier=self.tier)
        (temp / "id").write_text(ident)
        os.rename(temp, home)

    # --- size
    def du(self) -> "Usage":
        """Measure what the cache takes on disk."""
        from pocket.store.collect import usage

        return usage(self.root)

    def prune(self, *, max_bytes: int | None = None, keep: float = 0.0, volumes: bool = False) -> "Pruned":
        """Remove the least recently used until at most `max_bytes` remain (None: all that is unused).

        What was used in the last `keep` seconds and what a running session holds stays.
        """
        from pocket.store.collect import prune

        return prune(self, max_bytes=max_bytes, keep=keep, volumes=volumes)

    def collect(self) -> int:
        """Remove what dead sessions left behind; return how many there were."""
        from pocket.store.collect import collect_dead

        return collect_dead(self.root)


@contextlib.asynccontextmanager
async def opened(root: Path, *, tier: str) -> AsyncIterator[Store]:
    """Open a store for the length of a block."""
    store = Store.open(root, tier=tier)
    try:
        yield store
    finally:
        store.close()


def _safe(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read_boots(root: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((root / "boots.json").read_bytes()))
    except (OSError, ValueError):
        return {}


def _verify(layer: Layer) -> bool:
    """Compare a layer with its index, byte by byte."""
    for path, e in layer.rows():
        if e.kind == "f":
            place = f"{layer.path}/{path}"
            if os.lstat(place).st_size != e.size or disk.sha256_file(place) != e.target:
                return False
        elif e.kind == "d" and not os.path.isdir(f"{layer.path}/{path}"):
            return False
    return True


def _refuse_network(root: Path) -> None:
    """Refuse file systems whose locks and overlays do not work. The type is found in mountinfo: Python has no statfs type."""
    best, kind = "", ""
    real = os.path.realpath(root)
    with contextlib.suppress(OSError):
        for row in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
            left, _, right = row.partition(" - ")
            point = left.split(" ")[4].replace("\\040", " ")
            if (real + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, right.split(" ")[0]
    if kind in ("nfs", "nfs4", "cifs", "smb3", "lustre", "9p", "fuse.sshfs"):
        raise StoreError(
            f"the cache directory {root} is on {kind}: overlayfs cannot write there", hint="export WEIGHBRIDGE_CACHE=/var/tmp/weighbridge"
        )
