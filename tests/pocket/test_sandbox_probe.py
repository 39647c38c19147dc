"""What `pocket doctor` finds out, in a process of its own: probes fork, and a test process has threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_box import ROOT, tiers, why_not

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
    assert list(found) == ["kernel", "tier", "cache", "command", "services"]
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_says_which_variable_to_set() -> None:
    found = probes("/proc/cache")
    assert found["cache"]["status"] == "fail"
    assert "POCKET_CACHE" in found["cache"]["fix"]


def test_a_tier_that_cannot_be_had_is_the_only_complaint(tmp_path: Path) -> None:
    found = probes(tmp_path, "nonsense")
    assert [(p["name"], p["status"]) for p in found.values()] == [("kernel", "ok"), ("tier", "fail")]
    assert "use one of" in found["tier"]["fix"]
