"""Bring a host directory into the store: owners become root, extended attributes are dropped, times are kept but never hashed.

The same content gives the same snapshot as before. Where little changed since the last sync of the same directory, a small layer
on top of that one says what; a file is read only when its stat changed or cannot be trusted.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pocket.errors import StoreError, TreeError
from pocket.store import disk
from pocket.store.builder import LayerBuilder
from pocket.store.index import Entry, join
from pocket.store.layer import Layer, Snapshot
from pocket.store.store import Store
from pocket.tree import copier, syncproc
from pocket.tree.digest import leaves_key, tree_key
from pocket.tree.hoststate import Known, Row, State
from pocket.tree.hostwalk import Folder, TooManyError, Walk, walk
from pocket.tree.squash import squash

_WORKERS_FROM = 1000  # files: below, starting workers costs more than it saves
_HERE = 20_000  # files: more are not taken in by the session's own process
_DEEP = 8  # layers: above, the small ones are merged
_LINK = 0o120000
Rows = dict[str, Row]


def sync(
    store: Store,
    path: str | Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    gitignore: bool = False,
    limit: int = _HERE,
) -> Snapshot:
    """Return a snapshot of a host directory. TreeError when it is missing, no directory, or holds what cannot be read.

    When more than `limit` files are new a process of its own does it: what that takes of memory goes back when it ends.
    """
    root = os.path.realpath(os.path.expanduser(path))
    name = hashlib.sha256(json.dumps([root, list(include), list(exclude), gitignore]).encode()).hexdigest()[:32]
    place = store.root / "host" / name
    state = State.load(place)
    old = store.snapshot(state.layers, state.key) if state.layers else None
    if old is None:
        state = State()
    filters: dict[str, Any] = {"include": include, "exclude": exclude, "gitignore": gitignore}
    try:
        found = walk(root, {p: k.print for p, k in state.folders.items()}, **filters, limit=limit)
    except TooManyError:
        return syncproc.sync_elsewhere(store, root, filters)
    if old is not None and _untouched(found, state):
        return old
    return _Sync(store, root, state, old, found).run(place)


def _untouched(found: Walk, state: State) -> bool:
    if len(found.folders) != len(state.folders):
        return False
    return all(f.rows is None and state.folders[p].mode == f.mode for p, f in found.folders.items())


class _Sync:
    """One sync that has something to do."""

    def __init__(self, store: Store, root: str, state: State, old: Snapshot | None, found: Walk) -> None:
        self.store, self.root, self.state, self.old, self.found = store, root, state, old, found
        self.builder: LayerBuilder = store.layer_builder()
        self.before: dict[str, Rows] = {}
        self.after: dict[str, Rows] = {}
        self.fresh: set[str] = set()  # directories that hold a file whose times cannot be trusted
        self.empty = True

    def run(self, place: Path) -> Snapshot:
        changed = {p: f for p, f in self.found.folders.items() if f.rows is not None}
        self.before = {p: self.state.rows(p) for p in changed}
        self.mkdir("")
        self._take_in(changed)
        self._hide_removed()
        folders = {p: self._known(f) for p, f in self.found.folders.items()}
        key = tree_key((p, Entry("d", k.mode), k.leaves) for p, k in folders.items())
        snapshot = self._snapshot(key)
        new = State(key, [layer.id for layer in snapshot.layers], folders, self.state.path)
        new.save(place, self.store.tmp_dir / f"state-{self.builder.home.name}", self.after)
        return snapshot

    # --- directories
    def mkdir(self, path: str) -> None:
        """Add a directory, and those above it, as the host has them."""
        if path and path.rpartition("/")[0] not in self.builder.entries:
            self.mkdir(path.rpartition("/")[0])
        if not path or path not in self.builder.entries:
            f = self.found.folders[path]
            self.builder.mkdir(path, Entry("d", f.mode, mtime=f.mtime))

    def _known(self, f: Folder) -> Known:
        if f.rows is None:
            return self.state.folders[f.path]._replace(mode=f.mode)
        leaves = leaves_key((n, _entry(r)) for n, r in self.after[f.path].items())
        return Known("" if f.path in self.fresh else f.print, f.mode, leaves, 0, 0)

    def _hide_removed(self) -> None:
        if self.old is None:
            return
        for path, f in self.found.folders.items():
            before = self.state.folders.get(path)
            if before is None or before.mode != f.mode:
                self.mkdir(path)
                self.empty = False
        for path in self.state.folders:
            parent, _, name = path.rpartition("/")
            if path and path not in self.found.folders and parent in self.found.folders and name not in self.after.get(parent, {}):
                self._whiteout(path)
        for path, rows in self.before.items():
            for name in rows:
                child = join(path, name)
                if name not in self.after[path] and child not in self.found.folders:
                    self._whiteout(child)

    def _whiteout(self, path: str) -> None:
        self.mkdir(path.rpartition("/")[0])
        self.builder.whiteout(path)
        self.empty = False

    # --- files
    def _take_in(self, changed: dict[str, Folder]) -> None:
        jobs: list[tuple[str, str]] = []
        for path, f in changed.items():
            if self.old is None:
                self.mkdir(path)
            before, after = self.before[path], self.after.setdefault(path, {})
            for text in f.rows or ():
                name, *numbers = text.split("\0")
                mode, size, inode, mtime, ctime = map(int, numbers)
                old = before.get(name)
                if old is not None and old[:5] == (mode, size, inode, mtime, ctime):
                    after[name] = old
                elif mode & 0o170000 == _LINK:
                    self._link(path, name, Row(mode, 0, inode, mtime, ctime, ""))
                else:
                    jobs.append((path, name))
            f.rows = []
        self._copy(jobs)

    def _link(self, path: str, name: str, row: Row) -> None:
        child = join(path, name)
        try:
            row = row._replace(target=os.readlink(f"{self.root}/{child}"))
        except OSError:
            return
        self.after[path][name] = row
        if not self._same(self.before[path].get(name), row):
            self.mkdir(path)
            self.builder.symlink(child, row.target, _entry(row))
            self.empty = False

    @staticmethod
    def _same(old: Row | None, new: Row) -> bool:
        return old is not None and (old.mode, old.size, old.target) == (new.mode, new.size, new.target)

    def _copy(self, jobs: list[tuple[str, str]]) -> None:
        for path in {p for p, _ in jobs}:
            self.mkdir(path)
        entries, fs = self.builder.entries, self.builder.fs
        for (path, name), line in zip(jobs, self._results(jobs), strict=True):
            child = join(path, name)
            if line.startswith("!"):
                self._failed(child, int(line[1:]))
                continue
            numbers, _, target = line.rpartition(" ")
            mode, size, inode, mtime, ctime, fresh = map(int, numbers.split())
            if fresh:
                self.fresh.add(path)
                inode = 0  # no inode has this number: the file will be read again
            row = self.after[path][name] = Row(0o100000 | mode, size, inode, mtime, ctime, target)
            if self._same(self.before[path].get(name), row):
                os.unlink(f"{fs}/{child}")
            else:
                entries[child] = Entry("f", mode, 0, 0, size, mtime // 1_000_000_000, target)
                self.empty = False

    def _failed(self, path: str, code: int) -> None:
        if code in (2, 20, 40):  # ENOENT, ENOTDIR, ELOOP: it went away or became something else meanwhile
            return
        raise _refused(f"{self.root}/{path}", code)

    def _results(self, jobs: list[tuple[str, str]]) -> Iterable[str]:
        if len(jobs) < _WORKERS_FROM:
            return [copier.copy(f"{self.root}/{join(p, n)}", f"{self.builder.fs}/{join(p, n)}") for p, n in jobs]
        folder = self.store.tmp()
        (folder / "jobs").write_bytes(b"".join(os.fsencode(join(p, n)) + b"\0" for p, n in jobs))
        parts = min(max(os.cpu_count() or 1, 1), 8)
        command = [sys.executable, "-I", "-S", copier.__file__, str(folder / "jobs")]
        running = [
            subprocess.Popen([*command, f"{folder}/results-{n}", self.root, self.builder.fs, str(n), str(parts)], stdin=subprocess.DEVNULL)
            for n in range(parts)
        ]
        failed = [p.wait() for p in running]
        if any(failed):
            hint = disk.full(self.store.root) or "run it again"
            raise StoreError(f"copying {self.root} to the cache failed: a worker ended with {max(failed, key=abs)}", hint=hint)
        lines: list[str] = []
        for n in range(parts):
            lines += (folder / f"results-{n}").read_text(encoding="utf-8").split("\n")[:-1]
        return lines

    # --- the result
    def _snapshot(self, key: str) -> Snapshot:
        if self.old is not None and (key == self.state.key or self.empty):
            return Snapshot(self.old.layers, key)
        memo = hashlib.sha256(f"host tree {key}".encode()).hexdigest()
        record = self.store.actions.get(memo)
        if record is not None and (known := self.store.snapshot(record["layers"]["out"], key)) is not None:
            return known
        below = self.old.layers if self.old is not None else ()
        layers = _shallow(self.store, (*below, self.builder.finish()))
        self.store.actions.put(memo, {"layers": {"out": [layer.id for layer in layers]}})
        return Snapshot(layers, key)


def _shallow(store: Store, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Keep the stack short: merge the small layers, or all when together they are no longer small."""
    if len(layers) <= _DEEP:
        return layers
    if sum(layer.entries for layer in layers[1:]) * 2 > layers[0].entries:
        return (squash(store, layers, bottom=True),)
    return layers[0], squash(store, layers[1:])


def _refused(path: str, code: int) -> StoreError | TreeError:
    """Give the error for a file that could not be copied: the cache is full, or the file cannot be read."""
    error = OSError(code, os.strerror(code))
    if isinstance(full := disk.understood(error, f"copy {path} to the cache"), StoreError):
        return full
    return TreeError(f"open {path}: {os.strerror(code).lower()}")


def _entry(row: Row) -> Entry:
    if row.mode & 0o170000 == _LINK:
        return Entry("l", 0o777, mtime=row.mtime_ns // 1_000_000_000, target=row.target)
    return Entry("f", row.mode & 0o7777, 0, 0, row.size, row.mtime_ns // 1_000_000_000, row.target)


def sync_file(store: Store, path: str | Path) -> Snapshot:
    """Return a snapshot that holds one host file under its own name. TreeError when it is missing or a directory."""
    place = os.path.realpath(os.path.expanduser(path))
    name = os.path.basename(os.path.abspath(os.path.expanduser(path)))
    if os.path.isdir(place):
        raise TreeError(f"path {path} is a directory, not a file")
    if not os.path.exists(place):
        raise TreeError(f"{path}: no such file or directory")
    st = os.stat(place)
    seen = json.dumps([place, name, st.st_dev, st.st_ino, st.st_size, st.st_mode, st.st_mtime_ns, st.st_ctime_ns])
    quick = hashlib.sha256(f"host file {seen}".encode()).hexdigest()
    if (record := store.actions.get(quick)) is not None:
        known = store.snapshot(record["layers"]["out"], record["key"])
        if known is not None:
            return known
    builder = store.layer_builder()
    line = copier.copy(place, f"{builder.fs}/{name}")
    if line.startswith("!"):
        raise _refused(str(path), int(line[1:]))
    numbers, _, target = line.rpartition(" ")
    mode, size, _, mtime, _, fresh = map(int, numbers.split())
    entry = Entry("f", mode, 0, 0, size, mtime // 1_000_000_000, target)
    builder.entries[name] = entry
    key = tree_key([("", Entry("d", 0o755), leaves_key([(name, entry)]))])
    snapshot = Snapshot((builder.finish(),), key)
    if not fresh:
        store.actions.put(quick, {"layers": {"out": [snapshot.layers[0].id]}, "key": key})
    return snapshot
