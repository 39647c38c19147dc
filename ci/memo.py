"""What passed before: key → result, in the cache, shared by all clones on this machine.

Only passed results are kept, with copies of the files that the stage wrote into its run's record, so that a reused stage leaves the same
files behind. An entry whose parts are missing is no entry. Entries are written whole or not at all and never changed, so any number of
processes may use one cache.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.files import digest_of
from ci.hydrate import dehydrate, hydrate
from ci.inputs import Inputs
from ci.paths import write_atomically
from ci.stage import Base

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ci.remote import Remote


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A remembered result."""

    stage: str
    key: str
    summary: str
    result: dict[str, Any]
    identity: dict[str, Any]
    """The part of the result that later stages depend on."""
    run: str
    """The run that did the work."""
    commit: str
    seconds: float
    inputs: Inputs
    measurement: str = ""
    """The token of its measurements: with it, the engine answers from its cache instead of measuring anew."""
    artifacts: dict[str, str] = field(default_factory=dict)
    """Name in the run's directory → digest of the copy in the cache."""


class Memo:
    """The memo of one cache; `root` tells working trees apart where "the last time here" matters."""

    def __init__(self, cache: Path, root: Path, store: Remote | None = None) -> None:
        """`store` stands behind the cache: asked for what is not here, given what passes."""
        self._store = store
        self._directory = cache / "memo"
        self._here = self._directory / "last" / digest_of(str(root))[:16]

    def find(self, stage: str, key: str) -> Entry | None:
        """Return the entry under `key`, when it and all its files are there, or in the store."""
        entry = read_entry(self._directory / stage / f"{key}.json")
        if entry is None or any(not self._file(digest).exists() for digest in entry.artifacts.values()):
            return self._from_store(stage, key)
        return entry

    def put(self, entry: Entry, files: Path, images: Mapping[str, Path]) -> None:
        """Keep a passed result here and in the store; `images` (digest → archive) are what it stands for."""
        self.keep(entry, files)
        if self._store:
            self._store.offer(entry, {name: self._file(digest) for name, digest in entry.artifacts.items()}, images)

    def keep(self, entry: Entry, files: Path) -> None:
        """Keep a passed result here; `files` is the run's directory with the artefacts that the entry names.

        Raises:
            OSError: a file is not there, or the cache cannot be written.

        """
        for name, digest in entry.artifacts.items():
            if not self._file(digest).exists():
                write_atomically(self._file(digest), (files / name).read_bytes())
        write_entry(self._directory / entry.stage / f"{entry.key}.json", entry)
        self.point(entry)

    def elsewhere(self, images: Sequence[str]) -> bool:
        """Tell whether the store has all of these images, of which there is at least one."""
        store = self._store
        return bool(store and images) and all(store.holds(digest) for digest in images if store)

    def bring(self, digest: str, target: Path) -> bool:
        """Write an image of the store as an archive to `target`; False when it cannot be had."""
        return self._store is not None and self._store.fetch(digest, target)

    def _from_store(self, stage: str, key: str) -> Entry | None:
        def take(entry: Entry, files: Mapping[str, Path]) -> None:
            for name, digest in entry.artifacts.items():
                write_atomically(self._file(digest), files[name].read_bytes())
            write_entry(self._directory / stage / f"{key}.json", entry)

        found = self._store is not None and self._store.find(stage, key, take)
        return read_entry(self._directory / stage / f"{key}.json") if found else None

    def leave(self, entry: Entry, path: Path) -> None:
        """Write an entry to where a run keeps what passed, as it lies here: that is cheaper than to make its text anew."""
        try:
            text = (self._directory / entry.stage / f"{entry.key}.json").read_bytes()
        except OSError:
            write_entry(path, entry)
        else:
            write_atomically(path, text)

    def point(self, entry: Entry) -> None:
        """Note that `entry` is what holds in this working tree now, and what held before it, for `why`."""
        pointer = self._here / entry.stage
        held = self._pointed(entry.stage)
        if not held or held[0] != entry.key:
            write_atomically(pointer, "\n".join([entry.key, *held[:1]]).encode())

    def last(self, stage: str) -> Entry | None:
        """Return what held in this working tree the last time."""
        held = self._pointed(stage)
        return read_entry(self._directory / stage / f"{held[0]}.json") if held else None

    def before(self, entry: Entry) -> Entry | None:
        """Return what held in this working tree before `entry` did."""
        held = self._pointed(entry.stage)
        return read_entry(self._directory / entry.stage / f"{held[1]}.json") if len(held) > 1 and held[0] == entry.key else None

    def _pointed(self, stage: str) -> list[str]:
        try:
            return (self._here / stage).read_text().split()
        except OSError:
            return []

    def restore(self, entry: Entry, directory: Path) -> None:
        """Copy the entry's files into a run's directory."""
        for name, digest in entry.artifacts.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._file(digest), directory / name)

    def remember_base(self, question: str, base: Base) -> None:
        """Keep what a base resolved to; `question` identifies what was asked for, and where."""
        write_atomically(self._directory / "base" / f"{question}.json", json.dumps(dehydrate(base)).encode())

    def base(self, question: str) -> Base | None:
        """Return what the base resolved to the last time, when its archive is still there."""
        try:
            base = hydrate(Base, json.loads((self._directory / "base" / f"{question}.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return base if base.archive is None or base.archive.exists() else None

    def _file(self, digest: str) -> Path:
        return self._directory / "files" / digest


def digests_of(names: Iterable[str], directory: Path) -> dict[str, str]:
    """Return name → digest of files in a run's directory; names that are no files are left out."""
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in sorted(names) if (directory / name).is_file()}


def write_entry(path: Path, entry: Entry) -> None:
    """Write an entry whole."""
    write_atomically(path, json.dumps(dehydrate(entry)).encode())


def read_entry(path: Path) -> Entry | None:
    """Return the entry in a file; None when there is none, or none of this version."""
    try:
        return hydrate(Entry, json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
