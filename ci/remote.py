"""The remote store: the memo, records and durations in a repository of an OCI registry, for runners that vanish after each run.

It stands behind the local memo: what is not known here is asked there, what passed here is written there while the run goes on, and images
come over only when a stage needs their files. It costs a run nothing but time: a registry that does not answer is named once, and the run
goes on without it. Calls may come from any thread; the network's own loop runs in one of its own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ci.errors import UsageError

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping

    from ci.config.store import StoreConfig
    from ci.memo import Entry
    from pocket.oci.client import Client
    from pocket.oci.reference import Reference

T = TypeVar("T")
VARIABLE = "WEIGHBRIDGE_STORE"
_IMAGE_SECONDS = 600.0
_FLUSH_SECONDS = 120.0
_RUNS = 10


def opened(config: StoreConfig, environ: Mapping[str, str], *, cache: Path, may_write: bool) -> Remote | None:
    """Return the configured store, or None when there is none; nothing is asked yet.

    Raises:
        UsageError: it names no repository.

    """
    name = environ.get(VARIABLE, "") or config.remote
    if not name:
        return None
    if not name.startswith("oci://"):
        raise UsageError(
            f"a store is oci://<registry>/<repository>, got {name}", where=VARIABLE if environ.get(VARIABLE) else "store.remote"
        )
    return Remote(name, config, cache=cache, may_write=may_write)


class Remote:
    """One repository of a registry, as a store."""

    def __init__(self, name: str, config: StoreConfig, *, cache: Path, may_write: bool) -> None:
        self.name, self._config, self._cache, self._may_write = name, config, cache, may_write
        self.notes: list[str] = []
        """What went wrong, for the record: at most one line."""
        self._dead = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Client | None = None
        self._place: Reference | None = None
        self._uploads: list[concurrent.futures.Future[None]] = []
        self._held: dict[str, bool] = {}

    @property
    def used(self) -> bool:
        """Whether anything was asked of it yet."""
        return self._loop is not None

    # --- asking

    def find(self, stage: str, key: str, take: Callable[[Entry, Mapping[str, Path]], None]) -> bool:
        """Look for a stage's result and hand it, with its files, to `take`; tells whether there was one."""
        from ci.remote_artefacts import get_entry

        with self._scratch() as scratch:
            found = self._ask(lambda client, place: get_entry(client, place, stage, key, scratch), self._config.timeout)
            if found:
                take(*found)
        return bool(found)

    def holds(self, digest: str) -> bool:
        """Tell whether the store has an image or artefact."""
        from ci.remote_artefacts import has_image

        if digest not in self._held:
            self._held[digest] = bool(self._ask(lambda client, place: has_image(client, place, digest), self._config.timeout))
        return self._held[digest]

    def fetch(self, digest: str, target: Path) -> bool:
        """Bring an image or artefact, as an archive; False when it cannot be had any more."""
        from ci.remote_artefacts import get_image

        async def get(client: Client, place: Reference) -> bool:
            with self._scratch() as scratch:
                await get_image(client, place, digest, target, scratch)
            return True

        return bool(self._ask(get, _IMAGE_SECONDS))

    def durations(self) -> dict[str, float]:
        """Return stage → seconds of the last time that it worked anywhere."""
        from ci.remote_artefacts import durations

        return self._ask(lambda client, place: durations(client, place, _RUNS), self._config.timeout) or {}

    def fetch_run(self, name: str, runs: Path) -> str:
        """Bring the record of a run (of the latest without a name) into the directory of runs; returns its name, or nothing."""
        from ci.remote_artefacts import get_run, run_tags

        async def get(client: Client, place: Reference) -> str:
            tag = next((tag for tag in await run_tags(client, place) if tag.startswith(f"run-{name}")), "")
            identity = tag.removeprefix("run-").rpartition("-")[0]
            if not identity or (name and identity != name):
                return ""
            with self._scratch() as scratch:
                await get_run(client, place, tag, scratch / "run", scratch)
                runs.mkdir(parents=True, exist_ok=True)
                if not (runs / identity).exists():
                    shutil.move(scratch / "run", runs / identity)
            return identity

        return self._ask(get, _IMAGE_SECONDS) or ""

    # --- writing

    def offer(self, entry: Entry, files: Mapping[str, Path], images: Mapping[str, Path]) -> None:
        """Write a result, and first the images (digest → archive) that it stands for, while the run goes on."""
        from ci.remote_artefacts import put_entry, put_image

        async def put(client: Client, place: Reference) -> None:
            with self._scratch() as scratch:
                for digest, path in images.items():
                    await put_image(client, place, digest, path, scratch)
                await put_entry(client, place, entry, files, scratch)

        self._send(put)

    def offer_run(self, directory: Path) -> None:
        """Write a run's record."""
        from ci.remote_artefacts import put_run

        async def put(client: Client, place: Reference) -> None:
            with self._scratch() as scratch:
                await put_run(client, place, directory, scratch)

        self._send(put)

    def close(self) -> None:
        """Wait for what is still being written, within limits, and let go of the network."""
        if self._loop is None or self._thread is None:
            return
        import asyncio
        import concurrent.futures

        _, late = concurrent.futures.wait(self._uploads, timeout=_FLUSH_SECONDS)
        if late:
            self._give_up(f"{len(late)} uploads were not done after {_FLUSH_SECONDS:.0f} s")
            for upload in late:
                upload.cancel()
        client, loop = self._client, self._loop
        if client is not None:
            asyncio.run_coroutine_threadsafe(client.__aexit__(None, None, None), loop).result(self._config.timeout)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()
        self._loop = self._thread = self._client = None

    # --- the network

    def _ask(self, what: Callable[[Client, Reference], Awaitable[T]], timeout: float) -> T | None:
        """Return what the registry answers; None when it does not, from then on at once."""
        from ci.remote_artefacts import Unusable
        from pocket.oci.errors import PocketError

        if self._dead:
            return None
        try:
            return self._started(self._within(what, timeout)).result()
        except Unusable as error:
            self._note(str(error))
        except (PocketError, OSError, TimeoutError) as error:
            self._give_up(str(error) or f"no answer within {timeout:g} s")
        return None

    def _send(self, what: Callable[[Client, Reference], Awaitable[None]]) -> None:
        if not self._may_write or self._dead:
            return

        async def send() -> None:
            from pocket.oci.errors import PocketError

            try:
                await self._within(what, _IMAGE_SECONDS)
            except (PocketError, OSError, TimeoutError, ValueError) as error:
                self._give_up(f"not written: {str(error) or 'no answer'}")

        self._uploads.append(self._started(send()))

    async def _within(self, what: Callable[[Client, Reference], Awaitable[T]], seconds: float) -> T:
        import asyncio

        async with asyncio.timeout(seconds):
            client, place = self._connected()
            return await what(client, place)

    def _connected(self) -> tuple[Client, Reference]:
        from pocket.oci.client import Client, Retry
        from pocket.oci.reference import parse

        if self._client is None or self._place is None:
            self._place = parse(self.name.removeprefix("oci://"), default_tag=None)
            plain = [self._place.registry] if self._config.insecure else []
            self._client = Client(plain_http=plain, retry=Retry(attempts=2))
        return self._client, self._place

    def _started(self, work: Coroutine[None, None, T]) -> concurrent.futures.Future[T]:
        import asyncio  # not needed where the memo knows everything

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="store", daemon=True)
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _give_up(self, why: str) -> None:
        if not self._dead:
            self._dead = True
            self._note(f"the store {self.name} is not used: {why}")

    def _note(self, what: str) -> None:
        with self._lock:
            if not self.notes:
                self.notes.append(f"warning: {what}")

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        self._cache.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f"store-{os.getpid()}-", dir=self._cache))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
