"""Dangerous constructs in the subject's Python code, with bandit, which reads the code and does not run it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ci.stages.scan.found import Found, Severity, key_of

_SEVERITIES: dict[str, Severity] = {"HIGH": "high", "MEDIUM": "medium", "LOW": "low"}
_QUOTES_VALUES = {"B105", "B106", "B107"}
"""Tests whose message holds the password that they found."""


Outcome = tuple[list[Found], int, list[str]]
"""What was found, how many files were read, and which could not be."""


def remembered(root: Path, directory: str, memory: Path) -> Outcome:
    """Return what bandit finds below a directory; `memory` is a directory that keeps it for as long as no file there changes."""
    from ci.paths import write_atomically

    modules = sorted(path for path in (root / directory).rglob("*.py*") if path.is_file())
    texts = [part for path in modules for part in (str(path.relative_to(root)), path.read_text(encoding="latin-1"))]
    place = memory / f"code-{key_of(directory, *texts)}.json"
    try:
        kept = json.loads(place.read_bytes())
        return [Found(**one) for one in kept["found"]], kept["files"], kept["unread"]
    except (OSError, ValueError, TypeError, KeyError):
        pass
    found, files, unread = look(root, directory)
    write_atomically(place, json.dumps({"found": [asdict(one) for one in found], "files": files, "unread": unread}).encode())
    return found, files, unread


def look(root: Path, directory: str) -> Outcome:
    """Return what bandit finds below a directory."""
    import logging

    from bandit.core import config, manager

    logging.getLogger("bandit").setLevel(logging.CRITICAL)
    bandit = manager.BanditManager(config.BanditConfig(), "file", quiet=True)
    bandit.discover_files([str(root / directory)], recursive=True)
    bandit.run_tests()
    found = [_found(root, issue) for issue in bandit.get_issue_list()]
    unread = [f"{_relative(root, name)}: {reason}" for name, reason in bandit.get_skipped()]
    return sorted(found, key=lambda one: (one.file, one.line)), len(bandit.files_list), unread


def _found(root: Path, issue: object) -> Found:
    told = issue.as_dict(with_code=False)  # type: ignore[attr-defined]  # bandit has no annotations
    file, line, rule = _relative(root, told["filename"]), int(told["line_number"]), str(told["test_id"])
    text = str(told["issue_text"]).rstrip(".")
    if rule in _QUOTES_VALUES:
        text = text.partition(":")[0]
    return Found(rule, _severity(told), f"{text} ({told['test_name']})", file, line, key_of(rule, _line(root / file, line)))


def _severity(told: dict[str, str]) -> Severity:
    """Return bandit's severity; what it is not sure of counts one less."""
    severity = _SEVERITIES.get(told["issue_severity"], "low")
    return "medium" if severity == "high" and told["issue_confidence"] == "LOW" else severity


def _relative(root: Path, name: str) -> str:
    return str(Path(name).relative_to(root)) if Path(name).is_relative_to(root) else name


def _line(path: Path, number: int) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[number - 1].strip()
    except (OSError, IndexError):
        return ""
