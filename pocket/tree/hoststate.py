"""What is remembered of the last sync of a host directory: where its content went, and which digest each file had.

One file: the rows of each directory, then a table of the directories, then the table's place in 16 digits. The rows are read only
for directories that changed. A file that is cut short or damaged counts as nothing remembered.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_FORMAT = 1


class Row(NamedTuple):
    """One file or symlink: what stat said, and what it held."""

    mode: int  # with the file type
    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int
    target: str


class Known(NamedTuple):
    """One directory: the print of its rows ("" when they must be looked at again), mode, key of its leaves, place of its rows."""

    print: str
    mode: int
    leaves: str
    offset: int
    length: int


@dataclass(slots=True)
class State:
    """The last sync of one directory with one set of filters."""

    key: str = ""
    layers: list[str] = field(default_factory=list)
    folders: dict[str, Known] = field(default_factory=dict)
    path: Path | None = None

    @classmethod
    def load(cls, path: Path) -> "State":
        """Read a state; an empty one when there is none or it is damaged."""
        try:
            with open(path, "rb") as f:
                end = f.seek(-16, os.SEEK_END)
                start = int(f.read(16))
                f.seek(start)
                table = json.loads(f.read(end - start))
            if table["format"] != _FORMAT:
                return cls()
            os.utime(path)
            return cls(table["key"], table["layers"], {p: Known(*v) for p, v in table["folders"].items()}, path)
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def rows(self, folder: str) -> dict[str, Row]:
        """Return what one directory held; nothing when it is not known."""
        known = self.folders.get(folder)
        if known is None or self.path is None:
            return {}
        try:
            with open(self.path, "rb") as f:
                f.seek(known.offset)
                return {name: Row(*fields) for name, *fields in json.loads(f.read(known.length))}
        except (OSError, ValueError, TypeError):
            return {}

    def save(self, path: Path, temp: Path, changed: Mapping[str, dict[str, Row]]) -> None:
        """Write the state anew: rows of `changed` directories from memory, of all others from the old file."""
        folders: dict[str, Known] = {}
        old = open(self.path, "rb") if self.path is not None else None  # noqa: SIM115 - closed below
        try:
            with open(temp, "wb") as out:
                for name, known in self.folders.items():
                    if name in changed:
                        text = json.dumps([(n, *r) for n, r in changed[name].items()]).encode()
                    elif old is not None:
                        old.seek(known.offset)
                        text = old.read(known.length)
                    else:
                        text = b"[]"
                    folders[name] = known._replace(offset=out.tell(), length=len(text))
                    out.write(text)
                start = out.tell()
                out.write(json.dumps({"format": _FORMAT, "key": self.key, "layers": self.layers, "folders": folders}).encode())
                out.write(b"%016d" % start)
        finally:
            if old is not None:
                old.close()
        os.rename(temp, path)
