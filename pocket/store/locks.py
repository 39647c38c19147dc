"""Locks between processes: flock only, so that a lock dies with its holder, however that ends.

Order, outermost first: session lease, key lock, volume lock, collection lock. Waiting is polling: a thread that blocks in flock
cannot be cancelled.
"""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def take(path: Path, *, shared: bool = False, wait: bool = True) -> int | None:
    """Open and lock a file; return its descriptor, or None when someone else holds it and `wait` is off."""
    fd = os.open(path, _OPEN, 0o644)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def held(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock for a moment, waiting for it."""
    fd = take(path, shared=shared)
    try:
        yield
    finally:
        if fd is not None:
            os.close(fd)


def holder(path: Path) -> int:
    """Return the pid that the holder of a lock wrote into it, 0 when unknown."""
    try:
        return int(path.read_bytes() or b"0")
    except (OSError, ValueError):
        return 0


@contextlib.asynccontextmanager
async def waiting(path: Path, on_wait: Callable[[int], None] | None = None) -> AsyncIterator[None]:
    """Hold a lock exclusively; `on_wait` is told once the pid that is waited for."""
    import asyncio  # a session opens its store before it needs this, and while somebody waits

    pause, told = 0.002, False
    while (fd := _take_current(path)) is None:
        if not told and on_wait is not None and pause > 0.02:
            told = True
            on_wait(holder(path))
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    try:
        os.pwrite(fd, b"%d" % os.getpid(), 0)
        os.ftruncate(fd, len(b"%d" % os.getpid()))
        yield
    finally:
        # Unlinked while held: a waiter that gets the lock of the vanished file notices and opens the new one.
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(fd)


def _take_current(path: Path) -> int | None:
    fd = take(path, wait=False)
    if fd is None:
        return None
    try:
        same = os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        same = False
    if not same:
        os.close(fd)
        return None
    return fd
