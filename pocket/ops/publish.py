"""Publishing images: large layers are on their way to the registry while they are packed, all others follow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from pocket.oci.reference import parse
from pocket.ops.places import known_places, note_places
from pocket.ops.registry import client_of

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.oci.client import Client
    from pocket.oci.growing import Growing
    from pocket.oci.image import Image
    from pocket.oci.reference import Reference
    from pocket.store.store import Store


class Publishing:
    """One image, or several as one, on the way to a registry."""

    def __init__(self, store: Store, client: Client, reference: Reference) -> None:
        self._store, self._client, self._reference = store, client, reference
        self._loop = asyncio.get_running_loop()
        self._uploads: list[asyncio.Future[None]] = []

    def ahead(self, blob: Growing) -> None:
        """Upload a layer while it is packed; called from the thread that packs."""
        self._loop.call_soon_threadsafe(self._begin, blob)

    def _begin(self, blob: Growing) -> None:
        self._uploads.append(asyncio.ensure_future(self._client.upload_ahead(self._reference, blob)))

    async def finish(self, images: Sequence[Image]) -> str:
        """Push what is not there yet and give `reference@digest`."""
        # What went wrong on the way ahead is met again below, where it is tried as often as it is worth, and told.
        await asyncio.gather(*self._uploads, return_exceptions=True)
        elsewhere = known_places(self._store, self._reference, images)
        if len(images) == 1:
            digest = await self._client.push(self._reference, images[0], mount_from=elsewhere)
        else:
            digest = await self._client.push_index(self._reference, images, mount_from=elsewhere)
        note_places(self._store, self._reference, images)
        return str(self._reference.with_digest(digest))

    async def close(self) -> None:
        """End what is still on its way."""
        for upload in self._uploads:
            upload.cancel()
        await asyncio.gather(*self._uploads, return_exceptions=True)


@contextlib.asynccontextmanager
async def publishing(engine: Engine, address: str) -> AsyncIterator[Publishing]:
    """Open the registry that an address names.

    Raises:
        PocketError: the reference is malformed, or the registry refuses.
    """
    reference = parse(address)
    async with client_of(engine) as client:
        under_way = Publishing(engine.store, client, reference)
        try:
            yield under_way
        finally:
            await under_way.close()
