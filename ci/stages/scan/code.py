"""Dangerous constructs in the subject's Python code, with bandit, which reads the code and does not run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ci.stages.scan.found import Found, Severity, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEVERITIES: dict[str, Severity] = {"HIGH": "high", "MEDIUM": "medium", "LOW": "low"}
_QUOTES_VALUES = {"B105", "B106", "B107"}
"""Tests whose message holds the password that they found."""


def look(root: Path, directory: str, skip: Sequence[str]) -> tuple[list[Found], int, list[str]]:
    """Return what bandit finds below a directory, how many files it read, and which it could not read."""
    import logging

    from bandit.core import config, manager

    logging.getLogger("bandit").setLevel(logging.CRITICAL)
    bandit = manager.BanditManager(config.BanditConfig(), "file", quiet=True)
    bandit.discover_files([str(root / directory)], recursive=True)
    bandit.run_tests()
    found = [_found(root, issue) for issue in bandit.get_issue_list() if issue.test_id not in skip]
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
