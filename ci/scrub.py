"""Takes secrets out of what is written: texts, streams in pieces, JSON values, files.

A value is looked for as it is, line by line where it has several, and in the forms that reports give it: JSON, XML, percent and base64
encoding. It cannot be found where a program changed it otherwise, or put something in its middle. This module needs nothing but the
standard library, because it also runs in the container of the tests: `python3 scrub.py DIRECTORY NAMES -- COMMAND…` runs a command and
then takes the values of the named variables out of the files in a directory, before the engine keeps them.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST = 6
"""Characters below which a value cannot be told from ordinary text."""
HIDDEN = "***"


class Scrubber:
    """Replaces values by `***`; without values it hands everything on as it is."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._forms = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms))) if self._forms else None
        self._bytes = re.compile(b"|".join(re.escape(form.encode()) for form in self._forms)) if self._forms else None

    def __bool__(self) -> bool:
        """Tell whether there is anything to take out."""
        return self._pattern is not None

    def text(self, text: str) -> str:
        """Return a text without the values."""
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    def value(self, value: Any) -> Any:
        """Return a JSON value whose texts, also those that are keys, are without the values."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, (list, tuple)) else value

    def file(self, path: Path) -> None:
        """Take the values out of a file, if it is there and holds one."""
        if self._bytes is None or not path.is_file():
            return
        data = path.read_bytes()
        if self._bytes.search(data):
            path.write_bytes(self._bytes.sub(HIDDEN.encode(), data))

    def held(self, text: str) -> int:
        """Return how many characters at the end of a text may be the beginning of a value."""
        longest = len(self._forms[0]) - 1 if self._forms else 0
        for count in range(min(longest, len(text)), 0, -1):
            if any(form.startswith(text[-count:]) for form in self._forms if len(form) > count):
                return count
        return 0


class Stream:
    """A text that comes in pieces; what may be the beginning of a value waits for what follows."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber, self._waiting = scrubber, ""

    def feed(self, piece: str) -> str:
        """Take the next piece; return what can be shown now."""
        text = self._scrubber.text(self._waiting + piece)
        count = self._scrubber.held(text)
        self._waiting = text[len(text) - count :]
        return text[: len(text) - count]

    def close(self) -> str:
        """Return what still waited: no more pieces come."""
        rest, self._waiting = self._waiting, ""
        return rest


def _forms(value: str) -> Iterable[str]:
    # Imported here, because a run in which nothing changed has no secrets.
    import base64
    import json
    from urllib.parse import quote
    from xml.sax.saxutils import escape

    lines = [line.strip() for line in value.splitlines()]
    for part in {value, value.strip(), *lines}:
        if len(part) >= SHORTEST:
            quoted = escape(part, {'"': "&quot;"})
            yield from (part, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], escape(part), quoted)
            yield from (quoted.replace("\n", "&#10;"), quote(part, safe=""), base64.b64encode(part.encode()).decode())


def main(arguments: list[str]) -> int:
    """Run a command, then scrub the files that it left in a directory; returns the command's exit code."""
    import subprocess

    directory, names, _, *command = arguments
    code = subprocess.run(command, check=False).returncode
    scrubber = Scrubber(os.environ[name] for name in names.split(",") if name in os.environ)
    for path in sorted(Path(directory).rglob("*")):
        scrubber.file(path)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
