"""Going on with an earlier run: what passed there is not repeated, whatever the memo knows, as long as its inputs are the same.

A run's record keeps each passed stage's result together with its inputs, component by component, as soon as it has passed; so a run that
was killed at any moment can be gone on with. Where inputs changed since, going on would mix two runs into one: that is refused, with what
changed. What has to be made again because it was lost (an image that the cache dropped) is made again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.errors import UsageError
from ci.hydrate import hydrate
from ci.inputs import differences
from ci.memo import Entry, Memo, read_entry
from ci.paths import RUNS
from ci.record import passed_path
from ci.selection import Selection

if TYPE_CHECKING:
    from ci.inputs import Inputs
    from ci.remote import Remote

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A run to go on with."""

    id: str
    directory: Path
    selection: Selection
    """What that run was asked for."""
    extra: dict[str, tuple[str, ...]]
    entries: dict[str, Entry]
    """Stage → what passed."""

    def entry(self, stage: str, inputs: Inputs, memo: Memo) -> Entry | None:
        """Return what passed of a stage, brought back into the memo; None when it did not pass, or its files are lost.

        Raises:
            UsageError: the stage passed with other inputs; it says which.

        """
        entry = self.entries.get(stage)
        if entry is None:
            return None
        if entry.inputs != inputs:
            # A stage before it was made again and came out differently: then this one is due, and nobody's edit is to blame.
            own = differences(entry.inputs, replace(inputs, needs=entry.inputs.needs))
            if not own:
                return None
            more = f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else ""
            raise UsageError(
                f"run {self.id} cannot be resumed: since {stage} passed there, {', '.join(own[:_SHOWN])}{more}",
                hint="run without --resume: what did not change is reused all the same",
            )
        if any(not _holds(self.directory / name, digest) for name, digest in entry.artifacts.items()):
            return None
        memo.keep(entry, self.directory)
        return entry


def load(root: Path, name: str, store: Remote | None = None) -> Resumed:
    """Return the run of this name; `last` is the latest. One that is not here is looked for in the store.

    Raises:
        UsageError: there is no such run, or its record cannot be read.

    """
    if name in {"", ".", ".."} or "/" in name:
        raise UsageError(f'"{name}" is not the name of a run', hint=f"runs are the directories of {RUNS}; last is the latest")
    directory = root / RUNS / ("latest" if name == "last" else name)
    if store is not None and not directory.exists():
        found = store.fetch_run("" if name == "last" else name, root / RUNS)
        directory = root / RUNS / found if found else directory
    try:
        directory = directory.resolve(strict=True)
        record: dict[str, Any] = json.loads((directory / "run.json").read_bytes())
        asked = record.get("asked") or {}
        names = [entry["name"] for entry in record["stages"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = "there is no run to resume" if name == "last" else f"there is no run {name} to resume"
        raise UsageError(said, where=RUNS, hint="history lists the runs") from error
    passed = {stage: read_entry(passed_path(directory, stage)) for stage in names}
    return Resumed(
        id=directory.name,
        directory=directory,
        selection=hydrate(Selection, asked.get("selection") or {}),
        extra={stage: tuple(given) for stage, given in (asked.get("extra") or {}).items()},
        entries={stage: entry for stage, entry in passed.items() if entry},
    )


def _holds(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False
