"""What `pocket doctor` finds out, in a process of its own: probes fork, and a test process has threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_box import ROOT, tiers, why_not

from pocket.sandbox.limits import Limits

CODE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from pocket.sandbox.probe import run_all
print(json.dumps([asdict(p) for p in run_all(Path(sys.argv[1]))]))
"""


def probes(cache: Path | str, tier: str = "") -> dict[str, dict[str, str]]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "POCKET_TIER": tier}
    done = subprocess.run([sys.executable, "-c", CODE, str(cache)], env=env, capture_output=True, text=True, check=True)
    return {p["name"]: p for p in json.loads(done.stdout)}


@pytest.mark.parametrize("tier", [t for t in tiers() if t != "nobody"])
def test_this_machine_can_run_containers_and_nothing_is_left(tier: str, tmp_path: Path) -> None:
    if reason := why_not(tier):
        pytest.skip(reason)
    found = probes(tmp_path / "cache", "" if tier == "own" else tier)
    assert [p["name"] for p in found.values() if p["status"] == "fail"] == []
    assert list(found) == ["kernel", "tier", "cache", "command", "services", "limits", "gpu"]
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_says_which_variable_to_set() -> None:
    found = probes("/proc/cache")
    assert found["cache"]["status"] == "fail"
    assert "POCKET_CACHE" in found["cache"]["fix"]


def test_a_tier_that_cannot_be_had_is_the_only_complaint(tmp_path: Path) -> None:
    found = probes(tmp_path, "nonsense")
    assert [(p["name"], p["status"]) for p in found.values()] == [("kernel", "ok"), ("tier", "fail")]
    assert "use one of" in found["tier"]["fix"]


def grouped(place: Path, groups: dict[str, dict[str, str]], own: str) -> Limits:
    """Read the limits of a process in a group, with some files in each group's directory."""
    for group, files in groups.items():
        (place / "groups" / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / "groups" / group / name).write_text(text)
    (place / "membership").write_text(own)
    return Limits.read(place / "groups", place / "membership")


def test_the_tightest_limit_of_all_groups_counts(tmp_path: Path) -> None:
    groups = {
        ".": {"cgroup.controllers": "memory pids"}, "a": {"memory.max": "1073741824\n", "pids.max": "100\n"},
        "a/b": {"memory.max": "536870912\n", "pids.max": "max\n"}, "other": {"memory.max": "1\n"},
    }  # fmt: skip
    limits = grouped(tmp_path, groups, "0::/a/b\n")
    assert limits == Limits(unified=True, memory=512 << 20, tasks=100)
    assert limits.describe() == "at most 0.5 GiB of memory, at most 100 processes"
    assert "MemoryMax=" in limits.advice()
    assert "TasksMax=" in limits.advice()


def test_without_control_groups_memory_is_not_known(tmp_path: Path) -> None:
    for limits in (
        grouped(tmp_path, {"memory": {}}, "3:memory:/x\n"),
        grouped(tmp_path, {}, "0::/\n"),
        Limits.read(tmp_path, tmp_path / "none"),
    ):
        assert not limits.unified
        assert limits.memory is None
        assert "no control groups of version 2" in limits.describe()
    assert not Limits(unified=True, memory=4 << 30, tasks=None).advice()
