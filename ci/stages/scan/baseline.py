"""The reviewed file of accepted findings: each has the rule, the file and the key of a finding, and a reason.

An entry without a reason is an error: a file that a tool has filled in is not a review. Entries that no finding matches any more are
named, so that the file does not grow old unread.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ci.errors import UsageError
from ci.paths import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ci.stages.scan.found import Found

_FIELDS = ("rule", "file", "key", "reason")


@dataclass(frozen=True, slots=True)
class Accepted:
    """One entry."""

    rule: str
    file: str
    key: str
    reason: str


def read(path: Path, name: str) -> list[Accepted]:
    """Return the entries; none when there is no file. `name` stands for it in messages.

    Raises:
        UsageError: the file is not of the documented form.

    """
    try:
        data: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read: {error}", where=name) from error
    entries = data.get("accepted") if isinstance(data, dict) and data.get("schema") == 1 else None
    if not isinstance(entries, list):
        raise UsageError('must be {"schema": 1, "accepted": [...]}', where=name)
    accepted = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(field), str) for field in _FIELDS):
            raise UsageError(f"entry {number} needs {', '.join(_FIELDS)}, all of them text", where=name)
        if not entry["reason"].strip():
            raise UsageError(
                f"entry {number} ({entry['rule']} in {entry['file']}) has no reason", where=name, hint="say why it is harmless"
            )
        accepted.append(Accepted(*(entry[field] for field in _FIELDS)))
    return accepted


def update(
    path: Path, name: str, *, found: Sequence[Mapping[str, Any]], accepted: Sequence[Mapping[str, Any]], unused: Sequence[str], reason: str
) -> tuple[int, int]:
    """Add findings with a reason, and drop entries that a scan of all files named as matching nothing; returns how many of each.

    Raises:
        UsageError: findings are to be added without a reason, or the file is not of the documented form.

    """
    entries = read(path, name)
    why = " ".join(reason.split())
    if found and not why:
        raise UsageError("what is accepted has a reason", hint='scan --update-baseline --reason "a key of the tests, which opens nothing"')
    matched = {(one["rule"], one["file"], one["key"]) for one in accepted}
    kept = [one for one in entries if (one.rule, one.file, one.key) in matched or f"{one.rule} in {one.file}" not in unused]
    known = {(one.rule, one.file, one.key) for one in kept}
    fresh = dict.fromkeys((one["rule"], one["file"], one["key"]) for one in found)
    added = [Accepted(*identity, why) for identity in fresh if identity not in known]
    # One entry a line, where it stood: that is what people review.
    lines = ",\n".join(f"  {json.dumps(asdict(one), ensure_ascii=False)}" for one in [*kept, *added])
    write_atomically(path, f'{{\n "schema": 1,\n "accepted": [\n{lines}\n ]\n}}\n'.encode())
    return len(added), len(entries) - len(kept)


def split(found: Iterable[Found], accepted: Iterable[Accepted]) -> tuple[list[Found], list[Found], list[Accepted]]:
    """Return what is not accepted, what is, and the entries that match nothing."""
    known = {(entry.rule, entry.file, entry.key): entry for entry in accepted}
    fresh, old, used = [], [], set()
    for one in found:
        identity = (one.rule, one.file, one.key)
        if identity in known:
            old.append(one)
            used.add(identity)
        else:
            fresh.append(one)
    return fresh, old, [entry for identity, entry in known.items() if identity not in used]
