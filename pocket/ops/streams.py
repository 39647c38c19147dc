"""The output of a command: read while it is written, scrubbed of secrets, told to the trace, and kept as blobs.

Large output goes to the store when the command has ended; up to then it is in memory, as the Dagger engine holds it too.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from pocket.scrub import Scrubber

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pocket.engine import Engine
    from pocket.sandbox import ExecSpec, Outcome, Process

ERROR_TAIL = 100 * 1024  # bytes of output that an error carries, as Dagger's
_CHUNK = 64 * 1024


class Capture:
    """Both streams of one command."""

    def __init__(self, engine: Engine, secrets: Sequence[bytes]) -> None:
        self.engine = engine
        self._secrets = secrets
        self._parts: dict[int, list[bytes]] = {1: [], 2: []}
        self._both: list[bytes] = []
        self._readers: asyncio.Future[tuple[None, None]] = asyncio.get_running_loop().create_future()
        self.argv: tuple[str, ...] = ()

    async def run(self, spec: ExecSpec) -> Outcome:
        """Run the command and read both streams to their end; killed when the caller is cancelled."""
        return await self.wait(await self.start(spec))

    async def start(self, spec: ExecSpec) -> Process:
        """Start the command; somebody must `wait`."""
        self.argv = spec.argv
        out, out_w = os.pipe()
        err, err_w = os.pipe()
        try:
            process = await self.engine.zygote.spawn(spec, stdout=out_w, stderr=err_w)
        except BaseException:
            os.close(out)
            os.close(err)
            raise
        finally:
            os.close(out_w)
            os.close(err_w)
        self._readers = asyncio.gather(self._read(1, out), self._read(2, err))
        return process

    async def wait(self, process: Process) -> Outcome:
        """Wait for the end of the command and of its output."""
        try:
            outcome = await process.wait()
            await self._readers
            process.fill_redirects(stdout=self.stdout(), stderr=self.stderr())
        except BaseException:
            process.kill()
            self._readers.add_done_callback(lambda done: done.cancelled() or done.exception())  # or asyncio complains that nobody asked
            self._readers.cancel()
            raise
        return outcome

    async def _read(self, stream: int, fd: int) -> None:
        scrubber = Scrubber(self._secrets) if self._secrets else None
        span = self.engine.current_span()
        loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        ended: asyncio.Future[None] = loop.create_future()

        def take(data: bytes) -> None:
            if data:
                self._parts[stream].append(data)
                self._both.append(data)
                span.log(stream, data)

        def ready() -> None:
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                take(scrubber.feed(data) if scrubber else data)
            elif not ended.done():
                ended.set_result(None)

        loop.add_reader(fd, ready)
        try:
            await ended
            if scrubber:
                take(scrubber.finish())
            span.log_eof(stream)
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    def stdout(self) -> bytes:
        """Give what was written to standard output so far."""
        return b"".join(self._parts[1])

    def stderr(self) -> bytes:
        """Give what was written to standard error so far."""
        return b"".join(self._parts[2])

    async def blobs(self) -> tuple[str, str, str]:
        """Keep the streams and give their digests: stdout, stderr, and both in the order they came ("" for nothing)."""
        out, err = self.stdout(), self.stderr()
        put = self.engine.store.blobs.put_bytes
        both = put(b"".join(self._both)) if out and err else ""
        first, second = put(out) if out else "", put(err) if err else ""
        return first, second, both or first or second


def error_tail(data: bytes) -> str:
    """Give output as an error carries it: trimmed, and its end only when it is long."""
    trimmed = data.strip()
    if len(trimmed) > ERROR_TAIL:
        note = f"[omitting {len(trimmed) - ERROR_TAIL} bytes]..."
        return note + trimmed[-ERROR_TAIL:].decode("utf-8", "replace")
    return trimmed.decode("utf-8", "replace")
