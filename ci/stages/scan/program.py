"""The scan as a program of its own: a job as JSON on stdin, findings as JSON on stdout.

It is a process apart, so that a file made to choke a parser or a pattern costs this process and not the run, and so that the run can end
it at any time. It reads and runs nothing of the subject. The four parts run one after the other, except that the advisories are asked for
meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci.files import digest_of, matches
from ci.stages.scan import advisories, code, image, licences
from ci.stages.scan.leaks import LARGEST, Detectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ci.stages.scan.found import Found

_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to look at. Paths are relative to the repository root unless said otherwise."""

    root: str
    """The repository root, absolute."""
    files: tuple[str, ...]
    """Files of the change."""
    earlier: tuple[tuple[str, str], ...]
    """Path and git blob of what commits of the change held besides."""
    source: str
    """The subject's code."""
    archive: str
    """The image's OCI archive, absolute."""
    places: dict[str, str]
    """Directory in the image → where its files come from."""
    lock: str
    """The lock of the packages in the image."""
    cache: str
    """A directory to remember in, absolute."""
    exclude: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    advisories: str = ""


@dataclass(slots=True)
class Report:
    """What came of it."""

    found: list[Found] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """What was looked at: `files`, `image files`, `modules`, `packages`."""
    notes: list[str] = field(default_factory=list)
    """What was not checked, and why."""
    advisories: bool = False
    """Whether advisories were checked."""


def main() -> int:
    """Carry out the job on stdin."""
    job = Job(**json.load(sys.stdin))
    # bandit's plugin loader writes below the cache directory of the user otherwise.
    os.environ["XDG_CACHE_HOME"] = job.cache
    json.dump(asdict(look(job)), sys.stdout)
    return 0


def look(job: Job) -> Report:
    """Look at everything that the job names."""
    report, root = Report(), Path(job.root)
    lines = licences.locked((root / job.lock).read_text(encoding="utf-8", errors="replace"))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(advisories.look, job.advisories, job.lock, lines) if job.advisories and lines else None
        memory = Path(job.cache) / _identity()
        memory.mkdir(parents=True, exist_ok=True)
        _secrets(job, root, lines, report, memory)
        found, modules, unread = code.remembered(root, job.source, memory)
        report.found += found
        report.notes += [f"code of {one}" for one in unread]
        report.counts["modules"] = modules
        _advisories(asked, report, "" if job.advisories else "nobody is asked (scan.advisories is empty, or the run is frozen)")
    report.found = [one for one in report.found if not any(fnmatch(one.rule, pattern) for pattern in job.skip)]
    return report


def _secrets(job: Job, root: Path, lines: dict[str, tuple[str, int]], report: Report, memory: Path) -> None:
    kept = memory / "texts.json"
    with tempfile.TemporaryDirectory(dir=memory) as scratch, Detectors(Path(scratch), _remembered(kept)) as detectors:
        changed = [name for name in job.files if not matches(name, job.exclude)]
        for name in changed:
            report.found += detectors.look(name, _content(root / name))
        known = {(one.file, one.key) for one in report.found}
        report.found += [one for one in _committed(job, root, detectors) if (one.file, one.key) not in known]
        contents = image.look(Path(job.archive), detectors, lambda digest: image.Memory(memory / f"{digest.replace(':', '-')}.json"))
        _remember(kept, detectors.seen)
    report.counts |= {"files": len(changed), "image files": contents.files}
    report.notes += contents.unread
    here = {(one.file, one.key) for one in report.found}
    for one in contents.found:
        moved = _from(one, job.places, root)
        if (moved.file, moved.key) not in here and not matches(moved.file, job.exclude):
            report.found.append(moved)
    packages = {package.name: package for package in contents.packages if package.name in lines}
    report.counts["packages"] = len(packages)
    report.found += licences.look(packages.values(), job.lock, lines, allow=job.allow, deny=job.deny)


def _committed(job: Job, root: Path, detectors: Detectors) -> Iterator[Found]:
    """Give what commits of the change hold and the files do not: it stays in the history when it is taken out of a file."""
    from dataclasses import replace

    told = set()
    for name, blob in job.earlier:
        if matches(name, job.exclude):
            continue
        command = ["git", "-C", str(root), "cat-file", "blob", blob]
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        for one in detectors.look(name, done.stdout) if done.returncode == 0 else []:
            if (name, one.key) not in told:
                told.add((name, one.key))
                yield replace(one, message=f"{one.message} (a commit of this change holds it, as {blob[:10]}: have it replaced)")


def _advisories(asked: Future[list[Found]] | None, report: Report, why: str) -> None:
    if asked is None:
        report.notes.append(f"advisories: {why or 'nothing is locked'}")
        return
    try:
        report.found += asked.result()
        report.advisories = True
    except advisories.NotChecked as error:
        report.notes.append(f"advisories: {error}")


def _from(found: Found, places: dict[str, str], root: Path) -> Found:
    """Return a finding in the image as one in the file that it came from, when that file is there."""
    from dataclasses import replace

    path = found.file.removeprefix("image:")
    for inside, outside in places.items():
        name = f"{outside}/{path.removeprefix(inside).lstrip('/')}".lstrip("/").removeprefix("./")
        if path.startswith(f"{inside}/") and (root / name).is_file():
            return replace(found, file=name, message=f"{found.message} (it is in the image too)")
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.stat().st_size <= LARGEST else b"\0"
    except OSError:
        return b"\0"


def _identity() -> str:
    """Return what the memory holds for: other detectors, another bandit or other code of this package find other things."""
    from importlib.metadata import version

    own = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    return digest_of([version("detect-secrets"), version("bandit"), *own])[:16]


def _remembered(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        kept: dict[str, list[dict[str, Any]]] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return kept


def _remember(path: Path, seen: dict[str, list[dict[str, Any]]]) -> None:
    """Keep what was found in texts, the newest ones when there are too many."""
    from ci.paths import write_atomically

    merged = {digest: found for digest, found in _remembered(path).items() if digest not in seen} | seen
    write_atomically(path, json.dumps(dict(list(merged.items())[-_REMEMBERED:])).encode())
