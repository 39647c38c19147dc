"""A blob that is read while it is still being written: a large layer is uploaded while it is packed.

One thread writes; any number of others follow it. The file may be renamed or removed meanwhile: both sides hold it open.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from pocket.oci.blobs import BLOCK, BlobError


class Growing:
    """The writer's side has `write`, `end` and `fail`, the readers' `pieces` and `digest`."""

    def __init__(self, path: Path, out: BinaryIO) -> None:
        self._out, self._fd = out, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._changed = threading.Condition()
        self._size, self._digest, self._over = 0, "", False

    def __del__(self) -> None:
        os.close(self._fd)

    def write(self, data: bytes | memoryview) -> int:
        """Write on; returns how many bytes were taken."""
        done = self._out.write(data)
        with self._changed:
            self._size += done
            self._changed.notify_all()
        return done

    def end(self, digest: str) -> None:
        """Say that this was all, and which digest it has."""
        with self._changed:
            self._digest, self._over = digest, True
            self._changed.notify_all()

    def fail(self) -> None:
        """Say that there will be no more, unless it was complete: readers get a BlobError."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield all of it, waiting for the writer. Raises BlobError when that gives up."""
        at = 0
        while block := await asyncio.to_thread(self._read, at):
            at += len(block)
            yield block

    async def digest(self) -> str:
        """Wait for the end and give the digest. Raises BlobError when the writer gave up."""
        return await asyncio.to_thread(self._await_end)

    def _read(self, at: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._size > at or self._over)
            if self._size <= at:
                self._check()
                return b""
        return os.pread(self._fd, BLOCK, at)

    def _await_end(self) -> str:
        with self._changed:
            self._changed.wait_for(lambda: self._over)
            self._check()
            return self._digest

    def _check(self) -> None:
        if not self._digest:
            raise BlobError("a layer was not packed to its end", hint="the error of the packing says why")
