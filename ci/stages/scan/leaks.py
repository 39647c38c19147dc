"""Secrets in files, with the detectors of detect-secrets.

The library calls each detector for each line, which takes minutes for a repository. So a file's text is first searched as a whole with
the detectors' own patterns, and only lines in which one of them occurs are given to the library, which decides. Nothing is asked of any
network: whether a token still works is not tried. Detectors of entropy are left out, because every hash in a lock file is one to them, and
so is the detector of IP addresses. Files above a size, and files that are not text, are not looked at.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from ci.stages.scan.found import Found, Severity, key_of

LARGEST = 1 << 20
_NOT_USED = {"Base64HighEntropyString", "HexHighEntropyString", "IPPublicDetector"}
# Half of the time of all detectors; what they find has a name beside it, by which the detector of keywords finds it too.
_NOT_USED |= {"CloudantDetector", "IbmCloudIamDetector", "IbmCosHmacDetector", "SoftlayerDetector"}
# What is written with colons or under headings is parsed by the library as a whole.
_STRUCTURED = {".yaml", ".yml", ".ini", ".cfg", ".conf", ".properties", ".env", ".toml"}
_GUESSES = {"Secret Keyword", "Basic Auth Credentials"}
"""Detectors that go by the name beside a value, and are often wrong."""


class Detectors:
    """The detectors, made ready when they are first needed; a context manager.

    `remembered` maps a text's digest to what was found in it before.
    """

    def __init__(self, scratch: Path, remembered: Mapping[str, list[dict[str, Any]]]) -> None:
        self._scratch, self._remembered = scratch, remembered
        self._stack = contextlib.ExitStack()
        self._patterns: list[re.Pattern[str]] = []
        self.seen: dict[str, list[dict[str, Any]]] = {}
        """What to remember: digest of name and text → findings without their file."""

    def __enter__(self) -> Self:
        return self

    def _prepare(self) -> None:
        """Import the library and make its detectors: not before a text comes that nothing is remembered of."""
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
        from detect_secrets.plugins import keyword
        from detect_secrets.settings import get_plugins, transient_settings

        classes: Mapping[str, type[Any]] = get_mapping_from_secret_type_to_class()
        used = [{"name": one.__name__} for one in classes.values() if one.__name__ not in _NOT_USED]
        self._stack.enter_context(transient_settings({"plugins_used": used}))
        words = re.compile("|".join(keyword.DENYLIST), re.IGNORECASE)
        self._patterns = [words, *(pattern for plugin in get_plugins() for pattern in getattr(plugin, "denylist", ()))]

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def look(self, name: str, data: bytes) -> list[Found]:
        """Return what looks like a secret in a file; `name` is what the findings call it."""
        if len(data) > LARGEST or b"\0" in data[:8192]:
            return []
        base = name.rpartition("/")[2] or "file"
        digest = key_of(base, data.decode("latin-1"))
        if digest in self._remembered:
            self.seen[digest] = self._remembered[digest]
        else:
            self.seen[digest] = [{**asdict(found), "file": ""} for found in self._search(base, data.decode("utf-8", "replace"))]
        return [Found(**{**found, "file": name}) for found in self.seen[digest]]

    def _search(self, base: str, text: str) -> Iterator[Found]:
        if not self._patterns:
            self._prepare()
        lines = text.splitlines()
        numbers = self._candidates(text, lines)
        if not numbers:
            return
        if Path(base).suffix in _STRUCTURED or base.startswith(".env"):
            numbers = list(range(len(lines)))
        place = self._scratch / base
        place.write_text("".join(f"{lines[number]}\n" for number in numbers), encoding="utf-8")
        try:
            yield from self._asked(place, numbers)
        finally:
            place.unlink()

    def _asked(self, place: Path, numbers: list[int]) -> Iterator[Found]:
        from detect_secrets.core.scan import scan_file

        for secret in scan_file(str(place)):
            severity: Severity = "medium" if secret.type in _GUESSES else "high"
            yield Found(
                rule=f"secret:{secret.type}",
                severity=severity,
                message=f"looks like a secret ({secret.type}): take it out, and have it replaced if it was real",
                file="",
                line=numbers[secret.line_number - 1] + 1 if 0 < secret.line_number <= len(numbers) else 0,
                key=key_of(secret.type, secret.secret_value or ""),
            )

    def _candidates(self, text: str, lines: list[str]) -> list[int]:
        """Return the numbers, from 0, of the lines in which a pattern occurs, each with the line before it, which may allow it."""
        at = {match.start() for pattern in self._patterns for match in pattern.finditer(text)}
        found: set[int] = set()
        offsets = sorted(at)
        position = 0
        starts = [0]
        for line in text.splitlines(keepends=True):
            position += len(line)
            starts.append(position)
        number = 0
        for offset in offsets:
            while number + 1 < len(starts) and starts[number + 1] <= offset:
                number += 1
            # A pattern may begin with the end of the line before.
            found |= {max(number - 1, 0), number, min(number + 1, len(lines) - 1)}
        return sorted(found)
