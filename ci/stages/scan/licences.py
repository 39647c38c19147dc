"""Licences of the locked packages, as they state them in the image, against the configured patterns.

An SPDX expression is taken apart at OR (one alternative must be acceptable) and AND (all parts must be). Older statements (classifiers,
free text) are translated where the usual ones are known, and compared as they are otherwise. This reads what packages say of themselves;
it is no legal advice and looks into no file.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

from ci.stages.scan.found import Found, key_of
from ci.stages.scan.image import normalised

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ci.stages.scan.image import Package

# The usual statements before SPDX, in the order in which they are tried.
_USUAL = (
    (r"affero|agpl", "AGPL-3.0-only"),
    (r"lesser general|lgpl", "LGPL-3.0-only"),
    (r"general public.*v?3|gpl-?v?3", "GPL-3.0-only"),
    (r"general public|\bgpl", "GPL-2.0-only"),
    (r"server side public|sspl", "SSPL-1.0"),
    (r"business source|busl", "BUSL-1.1"),
    (r"mozilla.*2|mpl[- ]?2", "MPL-2.0"),
    (r"apache", "Apache-2.0"),
    (r"\bmit\b|expat", "MIT"),
    (r"python software|psf", "PSF-2.0"),
    (r"\bisc\b", "ISC"),
    (r"(2|two)[- ]clause|simplified bsd", "BSD-2-Clause"),
    (r"\bbsd\b", "BSD-3-Clause"),
    (r"unlicense", "Unlicense"),
    (r"zope|zpl", "ZPL-2.1"),
)
_EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.-]+)?(?:\s+(?:OR|AND)\s+\(?[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.-]+)?\)?)*")
_LOCKED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")


def locked(text: str) -> dict[str, tuple[str, int]]:
    """Return name → (version, line) of a lock."""
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _LOCKED.match(line):
            found[normalised(match[1])] = (match[2], number)
    return found


def look(
    packages: Iterable[Package], lock: str, lines: Mapping[str, tuple[str, int]], *, allow: Sequence[str], deny: Sequence[str]
) -> list[Found]:
    """Return a finding for each locked package whose licence is denied, not allowed or not stated; `lock` is the file's path."""
    found = []
    for package in packages:
        if package.name not in lines:
            continue
        line = lines[package.name][1]
        said = " AND ".join(f"({one})" if " OR " in one else one for one in package.stated)
        key = key_of("licence", package.name, said)
        if not package.stated:
            text = f"{package.name} {package.version} does not state its licence: find out, and accept it in the baseline"
            found.append(Found("licence", "high" if allow else "low", text, lock, line, key))
        elif not all(_acceptable(one, allow, deny) for one in package.stated):
            why = "denied" if not all(_acceptable(one, (), deny) for one in package.stated) else "not among the allowed ones"
            text = f"the licence of {package.name} {package.version} is {why} ({said}): use another package, or change scan.deny_licences"
            found.append(Found("licence", "high", text.replace("deny", "allow") if why != "denied" else text, lock, line, key))
    return found


def _acceptable(stated: str, allow: Sequence[str], deny: Sequence[str]) -> bool:
    """Tell whether one statement is acceptable: of alternatives one, of parts all."""
    if not _EXPRESSION.fullmatch(stated.replace("(", "").replace(")", "").strip()):
        return _allowed(_translated(stated), allow, deny)
    if " AND " in stated and "(" in stated:
        return all(_acceptable(part.strip(" ()"), allow, deny) for part in re.split(r"\s+AND\s+(?=\()|(?<=\))\s+AND\s+", stated))
    alternatives = re.split(r"\s+OR\s+", stated.strip(" ()"))
    return any(all(_allowed(_translated(part.strip(" ()")), allow, deny) for part in re.split(r"\s+AND\s+", one)) for one in alternatives)


def _allowed(identifier: str, allow: Sequence[str], deny: Sequence[str]) -> bool:
    if _matches(identifier, deny):
        return False
    return not allow or _matches(identifier, allow)


def _matches(identifier: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(identifier.lower(), pattern.lower()) for pattern in patterns)


def _translated(stated: str) -> str:
    """Return the SPDX identifier of a usual statement; what has the form of one, and the unknown, as they are."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9.]+)+\+?", stated):
        return stated
    return next((identifier for pattern, identifier in _USUAL if re.search(pattern, stated.lower())), stated)
