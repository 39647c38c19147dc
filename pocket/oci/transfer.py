"""Blobs on their way: verified downloads that resume, and uploads that mount, resume and never send what is there.

A download continues where the connection broke, when the registry can; its digest is over the whole in any case. Large blobs go
up in pieces, and after a failure the registry is asked how far it got. One that is still being packed goes up while it grows.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import BinaryIO

import httpx

from pocket.oci.blobs import BLOCK, BlobDir, BlobError, BlobSource, BlobWriter
from pocket.oci.failures import RegistryError, unreachable
from pocket.oci.growing import Growing
from pocket.oci.manifest import Descriptor
from pocket.oci.reference import Reference
from pocket.oci.transport import Body, Transport


class Transfer:
    """Moves blobs between a registry and files."""

    def __init__(self, transport: Transport, *, chunk: int) -> None:
        self._transport, self._chunk = transport, chunk

    async def fetch(self, ref: Reference, want: Descriptor, blobs: BlobDir) -> None:
        """Download a blob into `blobs` unless it is there."""
        if blobs.has(want.digest):
            return
        retry = self._transport.retry
        with blobs.writer(want) as writer:
            for attempt in range(retry.attempts):
                try:
                    await self._receive(ref, want, writer)
                    return
                except httpx.TransportError as e:
                    if attempt == retry.attempts - 1:
                        raise unreachable(e, ref.registry, f"pull {want.digest} of {ref}") from e
                await retry.wait(attempt)

    async def _receive(self, ref: Reference, want: Descriptor, writer: BlobWriter) -> None:
        start = writer.size
        if start == want.size:
            return
        async with self._transport.stream(
            ref.registry,
            "GET",
            f"/v2/{ref.repository}/blobs/{want.digest}",
            what=f"pull {want.digest} of {ref}",
            scope=_scope(ref, "pull"),
            ok=(200, 206),
            headers={"Range": f"bytes={start}-"} if start else {},
        ) as response:
            if start and response.status_code == 200:
                writer.restart()
            held = bytearray()
            try:
                async for part in response.aiter_raw():
                    held += part
                    if len(held) >= BLOCK:
                        block, held = held, bytearray()
                        await asyncio.to_thread(writer.write, block)
            finally:
                writer.write(held)  # what came before a connection broke need not come again

    async def upload_bytes(self, ref: Reference, what: Descriptor, data: bytes) -> None:
        """Upload a small blob from memory."""
        if not await self._has(ref, what):
            session = await self._start(ref, what.digest)
            await self._put_whole(ref, what, session or "", data)

    async def upload(self, ref: Reference, what: Descriptor, source: BlobSource, mount_from: Sequence[str] = ()) -> None:
        """Upload a blob unless the registry has it; first try to mount it from other repositories there."""
        if await self._has(ref, what):
            return
        session: str | None = ""
        for repository in mount_from:
            session = await self._start(ref, what.digest, mount=repository)
            if session is None:
                return
        session = session or await self._start(ref, what.digest) or ""
        if what.size <= self._chunk:
            await self._put_whole(ref, what, session, lambda: _pieces(source, what, 0, what.size))
            return
        await self._put_pieces(ref, what, session, source)

    async def upload_ahead(self, ref: Reference, blob: Growing) -> None:
        """Upload a blob while it is written, once and in one piece, as `docker push` does; `upload` has what to do when that fails."""
        what, scope = f"push a layer to {ref}", _scope(ref, "pull,push")
        session = await self._start(ref, "a layer") or ""
        headers = {"Content-Type": "application/octet-stream"}
        response = await self._transport.request(
            ref.registry, "PATCH", session, what=what, scope=scope, ok=(202,), headers=headers, body=blob.pieces, again=False
        )
        session = _with_digest(_location(response, session), await blob.digest())
        await self._transport.request(
            ref.registry, "PUT", session, what=what, scope=scope, ok=(201, 204), headers={"Content-Length": "0"}, again=False
        )

    async def _has(self, ref: Reference, what: Descriptor) -> bool:
        path = f"/v2/{ref.repository}/blobs/{what.digest}"
        response = await self._transport.request(
            ref.registry, "HEAD", path, what=f"push {ref}", scope=_scope(ref, "pull,push"), ok=(200, 404)
        )
        return response.status_code == 200

    async def _start(self, ref: Reference, digest: str, *, mount: str = "") -> str | None:
        """Open an upload and return its URL; None when the blob was mounted instead. A refused mount opens an upload, too."""
        path, scope = f"/v2/{ref.repository}/blobs/uploads/", _scope(ref, "pull,push")
        if mount:
            path += f"?mount={digest}&from={mount}"
            scope += f" repository:{mount}:pull"
        response = await self._transport.request(ref.registry, "POST", path, what=f"push {ref}", scope=scope, ok=(201, 202))
        if mount and response.status_code == 201:
            return None
        session = _location(response, "")
        if not session:
            raise RegistryError(f"{ref.registry} opened no upload for {digest}", hint="tell the registry's operator")
        return session

    async def _put_whole(self, ref: Reference, what: Descriptor, session: str, body: Body) -> None:
        await self._transport.request(
            ref.registry,
            "PUT",
            _with_digest(session, what.digest),
            what=f"push {what.digest} to {ref}",
            scope=_scope(ref, "pull,push"),
            ok=(201, 204),
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(what.size)},
            body=body,
        )

    async def _put_pieces(self, ref: Reference, what: Descriptor, session: str, source: BlobSource) -> None:
        """Send piece after piece; after a failure go on from where the registry says it is."""
        at = failures = 0
        retry = self._transport.retry
        while at < what.size:
            end = min(at + self._chunk, what.size)
            try:
                response = await self._patch(ref, what, session, source, at, end)
            except RegistryError as e:
                failures += 1
                if failures >= retry.attempts or e.status not in (0, 408, 416, 429, 500, 502, 503, 504):
                    raise
                await retry.wait(failures - 1)
                response = await self._progress(ref, what, session)
            else:
                failures = 0
            session, at = _location(response, session), _received(response)
            if at > what.size:
                raise RegistryError(f"{ref.registry} claims {at} bytes of {what.size}", hint="tell the registry's operator")
        await self._transport.request(
            ref.registry,
            "PUT",
            _with_digest(session, what.digest),
            what=f"push {what.digest} to {ref}",
            scope=_scope(ref, "pull,push"),
            ok=(201, 204),
            headers={"Content-Length": "0"},
        )

    async def _patch(self, ref: Reference, what: Descriptor, session: str, source: BlobSource, at: int, end: int) -> httpx.Response:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{at}-{end - 1}",
            "Content-Length": str(end - at),
        }
        return await self._transport.request(
            ref.registry,
            "PATCH",
            session,
            what=f"push {what.digest} to {ref}",
            scope=_scope(ref, "pull,push"),
            ok=(202,),
            headers=headers,
            body=lambda: _pieces(source, what, at, end),
            again=False,
        )

    async def _progress(self, ref: Reference, what: Descriptor, session: str) -> httpx.Response:
        return await self._transport.request(
            ref.registry, "GET", session, what=f"push {what.digest} to {ref}", scope=_scope(ref, "pull,push"), ok=(204, 202)
        )


async def _pieces(source: BlobSource, what: Descriptor, start: int, end: int) -> AsyncIterator[bytes]:
    """Yield a range of a blob, read off the event loop."""
    file: BinaryIO = await asyncio.to_thread(source.open, what.digest)
    with file:
        file.seek(start)
        left = end - start
        while left:
            block = await asyncio.to_thread(file.read, min(BLOCK, left))
            if not block:
                raise BlobError(f"the blob {what.digest} has less than its {what.size} bytes", hint="remove the image and make it again")
            left -= len(block)
            yield block


def _location(response: httpx.Response, otherwise: str) -> str:
    """Return where to go on, resolved against the URL that answered."""
    location = response.headers.get("location")
    return str(response.url.join(location)) if location else otherwise


def _received(response: httpx.Response) -> int:
    """Return how many bytes the registry has; `Range: 0-0` is ambiguous and taken as none, which costs at most a byte."""
    match = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("range", ""))
    return int(match[1]) + 1 if match and match[1] != "0" else 0


def _with_digest(session: str, digest: str) -> str:
    return f"{session}{'&' if '?' in session else '?'}digest={digest}"


def _scope(ref: Reference, actions: str) -> str:
    return f"repository:{ref.repository}:{actions}"
