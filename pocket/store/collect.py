"""Measure and shrink the cache. Least recently used first, never what a running session holds, blocks counted once.

Records need no bookkeeping of references: one that names a removed layer is no longer valid and goes when it is next asked for.
"""

import contextlib
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocket.store import disk, locks

if TYPE_CHECKING:
    from pocket.store.store import Store

_RECORD_KEPT = 30 * 86400


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on disk by kind; what hard links share is counted once."""

    layers: int
    blobs: int
    volumes: int
    other: int
    layer_count: int
    record_count: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.layers + self.blobs + self.volumes + self.other

    def to_json(self) -> dict[str, int]:
        """Return the numbers (bytes, and counts) for a script."""
        return {**asdict(self), "total": self.total}

    def describe(self) -> str:
        """Return the lines that `pocket du` prints."""
        rows = [
            (f"layers ({self.layer_count})", self.layers),
            ("blobs", self.blobs),
            ("cache volumes", self.volumes),
            (f"records ({self.record_count}) and temporary files", self.other),
            ("total", self.total),
        ]
        return "\n".join(f"{shown(size):>10}  {name}" for name, size in rows)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a collection did."""

    removed: int
    freed: int
    left: int
    in_use: int

    def to_json(self) -> dict[str, int]:
        """Return the numbers (entries and bytes) for a script."""
        return asdict(self)

    def describe(self) -> str:
        """Return the line that `pocket prune` prints."""
        held = f", {self.in_use} in use by running sessions" if self.in_use else ""
        return f"removed {self.removed} entries, freed {shown(self.freed)}; {shown(self.left)} left{held}"


@dataclass(slots=True)
class _Item:
    path: Path
    used: float
    bytes: int = 0


def shown(size: float) -> str:
    """Return a size for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def measure(path: Path, seen: set[int]) -> int:
    """Return the allocated bytes below a path, leaving out inodes already in `seen`."""
    total, todo = 0, [str(path)]
    while todo:
        here = todo.pop()
        try:
            st = os.lstat(here)
            if st.st_ino not in seen:
                seen.add(st.st_ino)
                total += st.st_blocks * 512
            with os.scandir(here) as it:
                for e in it:
                    if e.is_dir(follow_symlinks=False):
                        todo.append(e.path)
                        continue
                    st = e.stat(follow_symlinks=False)
                    if st.st_nlink > 1:
                        if st.st_ino in seen:
                            continue
                        seen.add(st.st_ino)
                    total += st.st_blocks * 512
        except NotADirectoryError:
            continue
        except OSError:
            continue
    return total


def usage(root: Path) -> Usage:
    """Measure a cache."""
    seen: set[int] = set()
    sizes = {name: measure(root / name, seen) for name in ("layers", "blobs", "volumes", "actions", "host", "tmp")}
    layers = sum(1 for _ in (root / "layers").iterdir())
    records = sum(1 for _ in (root / "actions").glob("??/*.json"))
    other = sizes["actions"] + sizes["host"] + sizes["tmp"]
    return Usage(sizes["layers"], sizes["blobs"], sizes["volumes"], other, layers, records)


def collect_dead(root: Path) -> int:
    """Remove the leases and temporary files of sessions that are gone."""
    count = 0
    for lease in (root / "leases").iterdir():
        with contextlib.suppress(FileNotFoundError):
            fd = _dead(lease)
            if fd is None:
                continue
            try:
                disk.remove_tree(root / "tmp" / lease.name)
                lease.unlink(missing_ok=True)
                count += 1
            finally:
                os.close(fd)
    for stray in (root / "tmp").glob("lease-*"):
        with contextlib.suppress(FileNotFoundError):
            if (fd := _dead(stray)) is not None:
                stray.unlink(missing_ok=True)
                os.close(fd)
    return count


def _dead(path: Path) -> int | None:
    if not path.exists():
        return None
    return locks.take(path, wait=False)


def leased(root: Path) -> set[str]:
    """Return the names that running sessions hold."""
    names: set[str] = set()
    for lease in (root / "leases").iterdir():
        with contextlib.suppress(FileNotFoundError):
            fd = _dead(lease)
            if fd is not None:
                os.close(fd)
                continue
            names.update(lease.read_text().split("\n")[1:])
    return names


def prune(store: "Store", *, max_bytes: int | None, keep: float, volumes: bool) -> Pruned:
    """Collect. The lock keeps sessions from pinning what is being chosen; removal itself happens outside of it."""
    collect_dead(store.root)
    newest = time.time() - keep
    with locks.held(store.root / "collect.lock"):
        held = leased(store.root)
        items, in_use = _items(store.root, held, volumes=volumes)
        left = usage(store.root).total if max_bytes is not None else 0
        doomed: list[_Item] = []
        seen: set[int] = set()
        for item in sorted(items, key=lambda i: i.used):
            if item.used > newest or (max_bytes is not None and left <= max_bytes):
                continue
            item.bytes = measure(item.path, seen)
            left -= item.bytes
            doomed.append(item)
        bin_ = store.tmp()
        for n, item in enumerate(doomed):
            with contextlib.suppress(FileNotFoundError):
                os.rename(item.path, bin_ / str(n))
    disk.remove_tree(bin_)
    _old_records(store)
    freed = sum(i.bytes for i in doomed) if doomed else 0
    return Pruned(len(doomed), max(freed, 0), left if max_bytes is not None else usage(store.root).total, in_use)


def _items(root: Path, held: set[str], *, volumes: bool) -> tuple[list[_Item], int]:
    items: list[_Item] = []
    in_use = 0
    for home in (root / "layers").iterdir():
        if home.name in held:
            in_use += 1
            continue
        with contextlib.suppress(FileNotFoundError):
            items.append(_Item(home, (home / "meta.json").stat().st_mtime))
    for blob in (root / "blobs" / "sha256").glob("??/*"):
        if f"sha256:{blob.name}" in held:
            in_use += 1
            continue
        with contextlib.suppress(FileNotFoundError):
            st = blob.stat()
            items.append(_Item(blob, max(st.st_atime, st.st_mtime)))
    for volume in (root / "volumes").iterdir() if volumes else ():
        if f"volume-{volume.name}" in held:
            in_use += 1
            continue
        items.append(_Item(volume, volume.stat().st_mtime))
    return items, in_use


def _old_records(store: "Store") -> None:
    """Remove records and host states that nobody asked for in a month: they are small, but many."""
    limit = time.time() - _RECORD_KEPT
    for path in [*store.actions.all(), *(store.root / "host").iterdir()]:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < limit:
                path.unlink(missing_ok=True)
