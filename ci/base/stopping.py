"""Work in a thread that ends soon after nobody wants its result any more, with the processes it started.

A thread cannot be interrupted, so the work asks (`check`) wherever it could go on for long, and names its processes (`watch`).
Without this an interrupted run would wait for a standard library to be compiled that nobody needs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import subprocess

T = TypeVar("T")


class Stopped(Exception):
    """Nobody waits for this work any more."""


class _Work:
    """One piece of work in a thread, as both sides know it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._jobs: list[subprocess.Popen[Any]] = []

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for job in self._jobs:
                job.kill()

    def check(self) -> None:
        if self._stopped:
            raise Stopped

    def watch(self, job: subprocess.Popen[Any]) -> None:
        with self._lock:
            self._jobs.append(job)
            if self._stopped:
                job.kill()


_CURRENT: ContextVar[_Work | None] = ContextVar("work", default=None)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in a thread; when the caller is cancelled, the work is asked to stop and its processes are killed."""
    work = _Work()

    def carry_out() -> T:
        _CURRENT.set(work)  # the thread's own copy of the context
        return function(*arguments)

    try:
        return await asyncio.to_thread(carry_out)
    except asyncio.CancelledError:
        work.stop()
        raise


def check() -> None:
    """Raise `Stopped` when nobody waits for this work any more."""
    if work := _CURRENT.get():
        work.check()


def watch(job: subprocess.Popen[Any]) -> None:
    """Kill a process when nobody waits for this work any more."""
    if work := _CURRENT.get():
        work.watch(job)
