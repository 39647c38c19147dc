"""scan: secrets in the change and in the image, dangerous code, licences and known vulnerabilities of the locked packages.

The looking is done by a program of its own (ci/stages/scan/program.py), on this machine and without an engine: it reads files and the
image's archive and runs nothing of the subject. This module hands it the job, takes away what a reviewed file accepts, and decides.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ci.change import Change, change_of
from ci.paths import write_atomically
from ci.stage import Context, Finding, InfraError, StageFailed, StageResult
from ci.stages.scan import baseline
from ci.stages.scan.found import SEVERITIES, Found, Severity, at_least

if TYPE_CHECKING:
    from ci.config.model import Config

_LAUNCH = "import sys; sys.path.insert(0, sys.argv.pop(1)); from ci.stages.scan.program import main; sys.exit(main())"
_KEPT = 200
_DAY, _HOUR = 24 * 3600.0, 3600.0


@dataclass(frozen=True, slots=True)
class Result(StageResult):
    """What was found and does not block."""

    volatile: ClassVar[frozenset[str]] = frozenset({"findings", "notes", "counts", "accepted", "looked_at", "advisories"})

    findings: tuple[Finding, ...]
    """At most `_KEPT`; scan.json in the record has all."""
    notes: tuple[str, ...]
    """What was not checked, and why."""
    counts: Mapping[str, int]
    accepted: int
    """Findings that the baseline accepts."""
    advisories: bool
    """Whether advisories were checked."""
    looked_at: float
    """When, in seconds since the epoch: advisories are news. 0 when nobody was to be asked."""


async def run(ctx: Context, needs: Mapping[str, Any]) -> Result:
    """Look, compare with the baseline, and fail when something remains that blocks."""
    scan = ctx.config.scan
    accepted = baseline.read(ctx.root / scan.baseline, scan.baseline)
    change = change_of(ctx.root, ctx.config, ctx.facts)
    report = await _looked(job_of(ctx, needs["build"].digest, change))
    fresh, old, unused = baseline.split([Found(**one) for one in report["found"]], accepted)
    fresh.sort(key=lambda one: (-SEVERITIES.index(one.severity), one.file, one.line))
    # No base is known, or only a part was looked at: then an entry may well have something to match elsewhere.
    stale = [f"{entry.rule} in {entry.file}" for entry in unused] if change.whole else []
    document = {
        "found": [asdict(one) for one in fresh],
        "accepted": [asdict(one) for one in old],
        "unused": stale,
        "notes": report["notes"],
    }
    write_atomically(ctx.record.artifact("scan.json"), json.dumps({"schema": 1, **document, "counts": report["counts"]}, indent=1).encode())
    blocking = [one for one in fresh if at_least(one.severity, scan.block)]
    if blocking:
        hint = f"if one of them is harmless, accept it in {scan.baseline} with a reason (scan.json in the record has the entries)"
        raise StageFailed(
            _counted(fresh, scan.block), findings=[finding(one) for one in blocking], hint=hint, tail=_not_checked(report["notes"])
        )
    said = [_counted(fresh, scan.block), _looked_at(report["counts"])]
    said += [f"{len(old)} accepted"] if old else []
    said += [f"{len(stale)} of the baseline match nothing"] if stale else []
    said += [_not_checked(report["notes"])] if report["notes"] else []
    return Result(
        " · ".join(said),
        findings=tuple(finding(one) for one in fresh[:_KEPT]),
        notes=tuple(report["notes"]),
        counts=report["counts"],
        accepted=len(old),
        advisories=report["advisories"],
        looked_at=time.time() if scan.advisories else 0.0,
    )


def job_of(ctx: Context, image: str, change: Change) -> dict[str, Any]:
    """Describe what the program shall look at."""
    config, scan = ctx.config, ctx.config.scan
    prefix = "" if config.subject.path in {"", "."} else config.subject.path.rstrip("/") + "/"
    cache = ctx.cache / "scan"
    cache.mkdir(parents=True, exist_ok=True)
    return {
        "root": str(ctx.root),
        "files": [name for name in change.files if name != scan.baseline],
        "earlier": [one for one in change.earlier if one[0] != scan.baseline],
        "source": prefix + config.subject.source,
        "archive": str(ctx.artifacts(image)),
        "places": {config.build.workdir.rstrip("/"): prefix.rstrip("/")},
        "lock": prefix + config.build.requirements,
        "cache": str(cache),
        "exclude": scan.exclude,
        "skip": scan.skip,
        "allow": scan.allow_licences,
        "deny": scan.deny_licences,
        "advisories": scan.advisories,
    }


async def _looked(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run the program; it is ended when this is cancelled."""
    import anyio

    package = Path(__file__).parents[3]
    # -P: what lies in the working directory must not be imported in place of a module that the program means.
    command = [sys.executable, "-P", "-c", _LAUNCH, str(package)]
    done = await anyio.run_process(command, input=json.dumps(job).encode(), check=False, cwd=job["cache"])
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode != 0:
        raise InfraError(f"the scan itself failed (exit code {done.returncode}): {said[-1] if said else 'it said nothing'}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def finding(found: Found) -> Finding:
    """Return a finding as reports show it."""
    return Finding(found.message, found.file, found.line, found.rule, severity=found.severity)


def out_of_date(result: Mapping[str, Any], config: Config, _root: Path, _cache: Path) -> str:
    """Say why a remembered scan cannot be reused: what advisories know changes by itself."""
    if config.scan.advisories and not result["looked_at"]:
        return "advisories have not been asked for"
    age = time.time() - result["looked_at"]
    if not config.scan.advisories or age < (_DAY if result["advisories"] else _HOUR):
        return ""
    return "its advisories are a day old" if result["advisories"] else "advisories could not be checked an hour ago"


def _counted(found: list[Found], block: Severity | Literal["never"]) -> str:
    if not found:
        return "nothing found"
    each = {severity: sum(one.severity == severity for one in found) for severity in reversed(SEVERITIES)}
    count = f"{len(found)} finding{'s' if len(found) > 1 else ''} ({', '.join(f'{n} {severity}' for severity, n in each.items() if n)})"
    return count if any(at_least(one.severity, block) for one in found) else f"{count}, none blocks"


def _looked_at(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {what if number != 1 else what.removesuffix('s')}" for what, number in counts.items())


def _not_checked(notes: list[str]) -> str:
    return f"not checked: {'; '.join(notes)}" if notes else ""
