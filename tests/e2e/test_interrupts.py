"""Interrupted runs: by Ctrl-C, which leaves nothing behind, and by kill -9, which leaves what the next run can live with."""

import os
import signal
import subprocess

import pytest
from accounts import Checkout, Finished
from layouts import images
from processes import in_container, kill_all, left_over, wait_until

MOMENTS = (0.1, 0.3, 0.6, 1.0, 1.4, 1.8, 2.4, 3.0, 3.8, 5.0)  # seconds after the first step of build is inside its container


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
