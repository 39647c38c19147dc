"""Work in a thread that nobody waits for any more: it ends, and so do the processes that it started."""

import asyncio
import subprocess
import threading

import pytest

from ci.base.stopping import Stopped, check, in_thread, watch


async def test_the_result_is_the_functions() -> None:
    def work(one: int, two: int) -> int:
        check()
        return one + two

    assert await in_thread(work, 1, 2) == 3


async def test_an_abandoned_thread_ends_with_its_processes() -> None:
    started, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    seen: list[object] = []

    def work() -> None:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as job:
            watch(job)
            loop.call_soon_threadsafe(started.set)
            seen.append(job.wait())
        try:
            check()
        except Stopped as stopped:
            seen.append(type(stopped))
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as late:
            watch(late)  # one that was started in spite of it
            seen.append(late.wait())
        ended.set()

    waiting = asyncio.ensure_future(in_thread(work))
    await started.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(ended.wait, 60)
    assert seen == [-9, Stopped, -9]


def test_outside_of_such_a_thread_nothing_is_stopped() -> None:
    check()
    with subprocess.Popen(["true"]) as job:
        watch(job)
    assert job.returncode == 0
