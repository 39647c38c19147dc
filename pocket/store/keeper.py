"""Housekeeping beside a session: remove what dead sessions left, make room on a disk that runs full, flush what was committed.

A daemon thread, because a sync takes as long as the disk needs and must not hold up the end of the session; what it does not get
to the next session does.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pocket.errors import StoreError

if TYPE_CHECKING:
    from pocket.store.store import Store

_FIRST, _EVERY = 2.0, 30.0  # seconds: after the start, which has better things to do, and between flushes
_LEAST_FREE = 0.1  # of the disk
_RESERVED = 10 << 30  # bytes: a cache no larger than this is left alone, whoever fills the disk
_RECENT = 3600.0  # seconds


class Keeper(threading.Thread):
    """The housekeeping of one session."""

    def __init__(self, store: "Store") -> None:
        super().__init__(name="pocket-keeper", daemon=True)
        self._store, self._ended = store, threading.Event()

    def run(self) -> None:
        """Work until the session ends."""
        if self._ended.wait(_FIRST):
            return
        self._safely(self._store.collect)
        self._safely(lambda: make_room(self._store))
        while True:
            if self._store.unflushed:
                self._safely(self._store.flush)
            if self._ended.wait(_EVERY):
                return

    def _safely(self, work: Callable[[], object]) -> None:
        # Nobody waits for an answer, and each of these is tried again: a full or vanished disk is met by the session's own writes.
        with contextlib.suppress(OSError, StoreError):
            if not self._ended.is_set():
                work()

    def end(self) -> None:
        """Let the thread stop when it next looks; it is not waited for."""
        self._ended.set()


def make_room(store: "Store", *, least_free: float = _LEAST_FREE, reserved: int = _RESERVED, recent: float = _RECENT) -> int:
    """Prune when less than `least_free` of the disk is free; return the bytes freed. Measures the cache only when it must."""
    disk = os.statvfs(store.root)
    short = int(disk.f_blocks * disk.f_frsize * least_free) - disk.f_bavail * disk.f_frsize
    if short <= 0:
        return 0
    used = store.du().total
    if used <= reserved:
        return 0
    return store.prune(max_bytes=max(used - short, reserved), keep=recent).freed
