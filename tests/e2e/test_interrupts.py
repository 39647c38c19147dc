"""Interrupted runs: by Ctrl-C, which leaves nothing behind, and by kill -9, which leaves what the next run can live with."""

import json
import os
import signal
import subprocess
from typing import Any

import pytest
from accounts import Checkout, Finished
from layouts import images
from processes import in_container, kill_all, left_over, wait_until

MOMENTS = (0.1, 0.3, 0.6, 1.0, 1.4, 1.8, 2.4, 3.0, 3.8, 5.0)  # seconds after the first step of build is inside its container

# What has happened when Ctrl-C comes: stage → its status in the record, or a part of the record that is there.
TURNING_POINTS = (
    ("facts", ""),
    ("engine", ""),
    ("base", ""),
    ("validate", "running"),
    ("validate", "passed"),
    ("build", "running"),
    ("test", "running"),
    ("build", "passed"),
    ("evaluate", "running"),
    ("evaluate", "passed"),
)


def reached(checkout: Checkout, before: set[str], what: str, status: str) -> bool:
    """Say whether a run that began since then has come to a point."""
    new = checkout.runs() - before
    if not new:
        return False
    record: dict[str, Any] = json.loads((checkout.root / ".weighbridge" / "runs" / new.pop() / "run.json").read_text())
    stages = {stage["name"]: stage["status"] for stage in record["stages"]}
    order = ("waiting", "running", "passed")
    return order.index(stages[what]) >= order.index(status) if status else bool(record[what])


def test_ctrl_c_at_ten_moments(checkout: Checkout) -> None:
    """Whatever it hits, from the first line to the last stage: 130, a record that says so, and nothing left behind."""
    env = {"POCKET_CACHE": str(checkout.account.cache / "pocket"), "WEIGHBRIDGE_LEASES": str(checkout.account.directory("leases"))}
    checkout.limit_suites(20)
    for number, (what, status) in enumerate(TURNING_POINTS):
        cache = checkout.account.directory(f"cache-moment-{number}")  # an empty memo: every stage has something to do
        before = checkout.runs()
        process = checkout.start("run", env={**env, "WEIGHBRIDGE_CACHE": str(cache)})
        assert wait_until(process, lambda: reached(checkout, before, what, status)), process.communicate()[0]  # noqa: B023  called here
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=120)
        assert (process.returncode, what, status) == (130, what, status), output
        assert "Traceback" not in output
        assert left_over(cache) == []
        assert checkout.record()["exit"] == 130
        assert list((checkout.account.home / "leases").glob("*.claim")) == []


def test_ctrl_c_is_130_and_leaves_nothing_behind(checkout: Checkout) -> None:
    cache = checkout.account.directory("cache-interrupted")
    process = checkout.start("run", env={"WEIGHBRIDGE_CACHE": str(cache)})
    assert wait_until(process, lambda: in_container(process)), process.communicate()[0]
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert left_over(cache) == []
    assert checkout.record()["exit"] == 130


def test_kill_9_ten_times_then_green_and_equal(checkout: Checkout, first: tuple[Checkout, Finished]) -> None:
    """Whatever moment of build it hits, the store is whole: the next run passes and makes the very same image."""
    cache = checkout.account.directory("cache-killed")
    env = {"WEIGHBRIDGE_CACHE": str(cache)}
    for moment in MOMENTS:
        process = checkout.start("run", env=env)
        if wait_until(process, lambda process=process: in_container(process)):  # type: ignore[misc]
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(moment)
        kill_all(process)
        assert left_over(cache) == []
    finished = checkout.ci("run", env=env)
    assert finished.code == 0, finished.output
    layout = ".weighbridge/oci"
    assert [image.digest for image in images(checkout.root / layout)] == [image.digest for image in images(first[0].root / layout)]
