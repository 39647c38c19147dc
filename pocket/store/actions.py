"""Action records: what an operation with a given key produced. A record counts only when all it names is still whole.

Records are small JSON files written last, by rename. `layers` maps outputs to layer ids, `stdout`, `stderr` and the list
`blobs` name blobs; the rest belongs to the solver.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pocket.errors import StoreError
from pocket.store import disk

Record = dict[str, Any]
_KEY = re.compile(r"[0-9a-f]{16,64}")


class Actions:
    """The records of one store. `lease` pins layers and blobs for the session and says whether all of them are whole."""

    def __init__(self, root: Path, tmp: Path, lease: Callable[[list[str], list[str]], bool]) -> None:
        self._root, self._tmp, self._lease = root, tmp, lease
        self._touched: set[str] = set()

    def path(self, key: str) -> Path:
        """Return where a record lies; StoreError when the key is not hexadecimal."""
        if not _KEY.fullmatch(key):
            raise StoreError(f"not an action key: {key!r}")
        return self._root / key[:2] / f"{key}.json"

    def get(self, key: str) -> Record | None:
        """Return a valid record, or None; a broken one is removed. Touches the record before what it names."""
        path = self.path(key)
        try:
            record: Record = json.loads(path.read_bytes())
            if key not in self._touched:
                os.utime(path)
                self._touched.add(key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
            return None
        layers, blobs = named(record)
        if not self._lease(layers, blobs):
            path.unlink(missing_ok=True)
            return None
        return record

    @disk.told("write a record to the cache")
    def put(self, key: str, record: Record) -> None:
        """Write a record; whatever it names must be in the store already."""
        path = self.path(key)
        temp = self._tmp / f"action-{os.urandom(6).hex()}"
        temp.write_text(json.dumps(record))
        try:
            os.rename(temp, path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.rename(temp, path)

    def all(self) -> Iterator[Path]:
        """Yield the files of all records."""
        yield from self._root.glob("??/*.json")


def named(record: Record) -> tuple[list[str], list[str]]:
    """Return the layers and the blobs that a record names."""
    layers: list[str] = []
    for value in (record.get("layers") or {}).values():
        layers += [value] if isinstance(value, str) else list(value)
    blobs = [record[k] for k in ("stdout", "stderr") if isinstance(record.get(k), str) and record[k].startswith("sha256:")]
    return layers, blobs + list(record.get("blobs") or ())
