"""What later jobs on a CI host read of a run: a few named values, and its numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ci.paths import RUNS
from ci.report.evidence import stage


def outputs(run: Mapping[str, Any]) -> dict[str, str]:
    """Return name → value; what the run did not come to is absent."""
    pushed = stage(run, "push").get("result") or {}
    built = stage(run, "build").get("result") or {}
    found = {
        "status": run["status"],
        "exit": run["exit"],
        "run": run["id"],
        "record": f"{RUNS}/{run['id']}",
        "image": pushed.get("image") or built.get("digest"),
        "artefact": pushed.get("artefact") or (stage(run, "package").get("result") or {}).get("digest"),
        "target": pushed.get("target"),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def dotenv(run: Mapping[str, Any]) -> str:
    """Return the outputs as a dotenv file: one `NAME=value` a line, without quotes, as GitLab reads it."""
    return "".join(f"WEIGHBRIDGE_{name.upper()}={_line(value)}\n" for name, value in outputs(run).items())


def metrics(run: Mapping[str, Any]) -> str:
    """Return scores, coverage and durations as OpenMetrics text, which GitLab compares in merge requests."""
    lines = [f"weighbridge_seconds {run['seconds']}"]
    lines += [
        f'weighbridge_stage_seconds{{stage="{_label(entry["name"])}"}} {entry["seconds"]}' for entry in run["stages"] if entry["seconds"]
    ]
    test = stage(run, "test").get("result") or {}
    lines += [f"weighbridge_tests_passed {test['passed']}"] if "passed" in test else []
    lines += [f"weighbridge_coverage_percent {test['coverage']:.2f}"] if test.get("coverage") else []
    suites = (stage(run, "evaluate").get("result") or {}).get("suites") or []
    lines += [f'weighbridge_score{{suite="{_label(suite["name"])}"}} {suite["score"]}' for suite in suites]
    scan = stage(run, "scan")
    found = (scan.get("result") or scan.get("failure") or {}).get("findings")
    if found is not None:
        counts = {severity: sum(one.get("severity") == severity for one in found) for severity in ("high", "medium", "low")}
        lines += [f'weighbridge_scan_findings{{severity="{severity}"}} {count}' for severity, count in counts.items()]
    size = (stage(run, "build").get("result") or {}).get("size")
    lines += [f"weighbridge_image_bytes {size}"] if size else []
    return "\n".join([*lines, "# EOF", ""])


def _line(value: str) -> str:
    return re.sub(r"\s+", " ", value).strip()


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
