"""Checks a model repository before anything is built: model files against their lock, documents, evaluation suites, Python locks.

Standard library only, because it runs inside a container: `python -m ci.check job.json` prints one JSON object, {"counts": {…}, "problems":
[{"file", "line", "message"}]}, and ends with 1 when there are problems. Everything is checked; nothing stops at the first problem.

The job: {"root", "model": [patterns], "lock", "summary", "suites": [{"file", "limit"}], "requirements": [files]}, all relative to `root`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.artefact import kind_of, read_safetensors_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BLOCK = 1 << 20
_LOCKED = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?==\S+")
_INDEX = re.compile(r"^(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b")
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")


@dataclass(slots=True)
class Report:
    """Problems with their places, and how much was looked at."""

    root: Path
    problems: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def problem(self, file: str, line: int, message: str) -> None:
        """Add a problem; line 0 means the file as a whole."""
        self.problems.append({"file": file, "line": line, "message": message})

    def document(self, file: str) -> Any:
        """Read a JSON or TOML file; None when it is none, which is then a problem."""
        self.counts["documents"] += 1
        try:
            data = (self.root / file).read_bytes()
            return tomllib.loads(data.decode()) if file.endswith(".toml") else json.loads(data)
        except FileNotFoundError:
            self.problem(file, 0, "there is no such file")
        except json.JSONDecodeError as error:
            self.problem(file, error.lineno, f"not JSON: {error.msg}")
        except (OSError, ValueError) as error:
            self.problem(file, 0, f"cannot be read: {error}")
        return None


def check(job: Mapping[str, Any]) -> Report:
    """Check everything that the job names."""
    report = Report(Path(job["root"]))
    _check_model(report, job["model"], job["lock"])
    for name in filter(None, [job.get("summary", ""), "pyproject.toml" if (report.root / "pyproject.toml").exists() else ""]):
        report.document(name)
    for suite in job["suites"]:
        _check_suite(report, suite["file"])
    for lock in job["requirements"]:
        check_requirements(report, lock)
    return report


def _check_model(report: Report, patterns: list[str], lock: str) -> None:
    locked = report.document(lock)
    files = locked.get("files") if isinstance(locked, dict) else None
    if not isinstance(files, dict) or not files:
        if locked is not None:
            report.problem(lock, 0, 'a lock has "files": {name: {"sha256", "size"}}, at least one')
        return
    parent = Path(lock).parent
    for name, entry in sorted(files.items()):
        _check_locked(report, str(parent / name), entry, lock)
    present = {str(path.relative_to(report.root)) for pattern in patterns for path in _files(report.root / pattern)}
    for name in sorted(present - {str(parent / name) for name in files} - {lock}):
        report.problem(name, 0, f"{lock} does not name it, but it would lie in the image")


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (found for found in path.rglob("*") if found.is_file() and "__pycache__" not in found.parts)


def _check_locked(report: Report, name: str, entry: Any, lock: str) -> None:
    path = report.root / name
    report.counts["model files"] += 1
    if not path.is_file():
        report.problem(name, 0, f"{lock} names it, but there is no such file")
        return
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    wanted = entry.get("sha256") if isinstance(entry, dict) else None
    if digest.hexdigest() != wanted:
        report.problem(name, 0, f"is not the file that {lock} names: sha256 {digest.hexdigest()[:12]}…, locked {str(wanted)[:12]}…")
    elif isinstance(entry, dict) and entry.get("size", path.stat().st_size) != path.stat().st_size:
        report.problem(name, 0, f"{lock} gives another size")
    if path.suffix == ".safetensors":
        try:
            report.counts["tensors"] += len(read_safetensors_header(path))
        except ValueError as error:
            report.problem(name, 0, f"not a safetensors file: {error}")
    elif kind_of(name) == "weight.config" and path.suffix in {".json", ".toml"}:
        report.document(name)


def _check_suite(report: Report, file: str) -> None:
    report.counts["suites"] += 1
    path = report.root / file
    seen: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        report.problem(file, 0, f"cannot be read: {error}")
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            for message in _sample_problems(line, path, seen, number):
                report.problem(file, number, message)
    report.counts["samples"] += len(seen)
    if not seen:
        report.problem(file, 0, "a suite has at least one sample")


def _sample_problems(line: str, suite: Path, seen: dict[str, int], number: int) -> Iterator[str]:
    try:
        sample = json.loads(line)
    except ValueError as error:
        yield f"not JSON: {error}"
        return
    if not isinstance(sample, dict) or not isinstance(sample.get("id"), str):
        yield "a sample is an object with id, prompt, expected and, where there is one, image"
        return
    if sample["id"] in seen:
        yield f"id {sample['id']!r} is already on line {seen[sample['id']]}"
    seen.setdefault(sample["id"], number)
    if not isinstance(sample.get("prompt"), str) or not sample["prompt"].strip():
        yield "prompt is missing"
    if not isinstance(sample.get("expected"), (str, list)) or not sample["expected"]:
        yield "expected is missing"
    if image := sample.get("image"):
        yield from _image_problems(suite.parent, image)


def _image_problems(directory: Path, image: Any) -> Iterator[str]:
    path = directory / str(image)
    if not path.resolve().is_relative_to(directory.resolve()):
        yield f"image {image!r} lies outside the suite's directory"
    elif not path.is_file():
        yield f"image {image!r} does not exist"
    else:
        with path.open("rb") as handle:
            if not handle.read(8).startswith(_IMAGES):
                yield f"image {image!r} is no image"


def check_requirements(report: Report, file: str) -> None:
    """Check that a Python lock pins every package to one version with a hash, and names no index."""
    try:
        text = (report.root / file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        report.problem(file, 0, f"cannot be read: {error}")
        return
    number = 0
    for logical in text.replace("\\\n", "\0").splitlines():
        number += 1
        line = logical.replace("\0", " ").strip()
        if _INDEX.match(line):
            report.problem(file, number, "a lock names no package index: the machine chooses it")
        elif line and not line.startswith(("#", "-")):
            report.counts["packages"] += 1
            if not _LOCKED.match(line):
                report.problem(file, number, f"not pinned to one version: {line.split()[0]}")
            elif "--hash=sha256:" not in line:
                report.problem(file, number, f"has no sha256 hash: {line.split()[0]}")
        number += logical.count("\0")


def main(job: str) -> int:
    """Check, print the report, and return 1 when there are problems."""
    report = check(json.loads(Path(job).read_text(encoding="utf-8")))
    print(json.dumps({"counts": report.counts, "problems": report.problems}, ensure_ascii=False))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
