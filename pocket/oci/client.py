"""A registry client (OCI distribution 1.1 and Docker's registry API v2): manifests, tags, referrers, pulling and pushing.

Everything that comes in is verified by digest and size. Blobs go through files, never through memory, many at a time. Use as an
async context manager; one client serves any number of registries, in one event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from pocket.errors import PocketError
from pocket.oci import digest as dg
from pocket.oci import manifest as mf
from pocket.oci import media
from pocket.oci.blobs import BlobDir
from pocket.oci.credentials import Credentials, Keychain
from pocket.oci.failures import RegistryError
from pocket.oci.growing import Growing
from pocket.oci.image import Image, assemble, index_of
from pocket.oci.manifest import Descriptor, Manifest, ManifestIndex, Platform
from pocket.oci.mirrors import Mirrors
from pocket.oci.reference import Reference
from pocket.oci.reference import parse as parse_reference
from pocket.oci.referrers import Referrers
from pocket.oci.transfer import Transfer
from pocket.oci.transport import Retry, Transport

__all__ = ["Client", "Credentials", "RegistryError", "Resolved", "Retry"]
_PARALLEL = 4
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a reference points to: the reference pinned to a digest, and the document as sent."""

    reference: Reference
    document: Manifest | ManifestIndex
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """The digest of the manifest, or of the index of a multi-platform image."""
        return dg.of_bytes(self.data)

    @property
    def descriptor(self) -> Descriptor:
        """What points to this document; the subject of a referrer."""
        return Descriptor(media_type=self.document.media_type, digest=self.digest, size=len(self.data))


class Client:
    """Talks to registries.

    `credentials` maps registries (or `registry/prefix`) to logins and goes before Docker's files; `plain_http` names registries
    that are spoken to without TLS, which otherwise only loopback ones are; `chunk` is the size in bytes from which blobs are
    uploaded in resumable pieces. What is read is looked for in the mirrors that the environment names first.
    """

    def __init__(
        self,
        *,
        credentials: Mapping[str, Credentials] | None = None,
        environ: Mapping[str, str] | None = None,
        plain_http: Collection[str] = (),
        retry: Retry | None = None,
        chunk: int = 256 << 20,
    ) -> None:
        self._mirrors = Mirrors.from_env(environ)
        plain = {*plain_http, *self._mirrors.plain}
        self._transport = Transport(Keychain(credentials, environ=environ), plain_http=plain, retry=retry)
        self._transfer = Transfer(self._transport, chunk=chunk)
        self._referrers = Referrers(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        await self._transport.__aexit__(kind, e, trace)

    async def ping(self, registry: str) -> None:
        """Check that a registry is there and lets us in. Raises RegistryError that says what is wrong."""
        await self._transport.request(registry, "GET", "/v2/", what=f"reach {registry}", scope="")

    async def resolve(self, ref: Reference | str) -> Resolved:
        """Fetch the manifest or index that a reference names, verified."""
        ref = _parsed(ref)
        found = await self._anywhere(ref, self._resolve)
        return replace(found, reference=ref.with_digest(found.digest))

    async def _anywhere(self, ref: Reference, read: Callable[[Reference], Awaitable[T]]) -> T:
        """Read from the first place that has it as it should be: the mirrors, then the registry, whose error counts."""
        for place in self._mirrors.places(ref):
            try:
                return await read(place)
            except PocketError as e:
                if place is ref:
                    raise
                self._mirrors.note(place, e)
        raise AssertionError("the registry itself is the last place")

    async def _resolve(self, ref: Reference) -> Resolved:
        response = await self._transport.request(
            ref.registry,
            "GET",
            f"/v2/{ref.repository}/manifests/{ref.wanted}",
            what=f"pull {ref}",
            scope=_scope(ref, "pull"),
            headers={"Accept": media.ACCEPT},
        )
        digest = dg.of_bytes(response.content)
        want = ref.digest or response.headers.get("docker-content-digest", digest)
        dg.expect(f"the manifest of {ref}", want=want, got=digest)
        document = mf.read(response.content, response.headers.get("content-type", ""))
        return Resolved(reference=ref.with_digest(digest), document=document, data=response.content)

    async def exists(self, ref: Reference | str) -> str | None:
        """Return the digest of what a reference names, or None when there is nothing; transfers no content."""
        ref = _parsed(ref)
        path = f"/v2/{ref.repository}/manifests/{ref.wanted}"
        headers = {"Accept": media.ACCEPT}
        response = await self._transport.request(
            ref.registry, "HEAD", path, what=f"look up {ref}", scope=_scope(ref, "pull"), ok=(200, 404), headers=headers
        )
        if response.status_code == 404:
            return None
        digest = response.headers.get("docker-content-digest")
        return dg.checked(digest) if digest else (await self.resolve(ref)).digest

    async def pull(self, ref: Reference | str, blobs: BlobDir, *, platform: Platform | None = None) -> Image:
        """Fetch an image, or an artefact, into `blobs`; what is there already is not fetched again.

        An index is resolved for `platform` (this machine's by default). A reference with a digest whose content is there
        needs no network.
        """
        ref = _parsed(ref)
        for _ in range(4):
            document, data = await self._document(ref, blobs)
            if isinstance(document, Manifest):
                await _gather(partial(self.fetch, ref, d, blobs) for d in _distinct((document.config, *document.layers)))
                return assemble(document, data, blobs.read(document.config.digest), blobs)
            ref = ref.with_digest(document.select(platform or Platform.local()).digest)
        raise mf.ManifestError(f"{ref}: indexes are nested too deeply", hint="push the image again")

    async def fetch(self, ref: Reference | str, descriptor: Descriptor, blobs: BlobDir) -> None:
        """Fetch one blob of a repository into `blobs`, verified; nothing when it is there already."""
        await self._anywhere(_parsed(ref), lambda place: self._transfer.fetch(place, descriptor, blobs))

    async def push(self, ref: Reference | str, image: Image, *, mount_from: Sequence[str] = ()) -> str:
        """Upload an image or artefact and return its digest.

        Blobs that the registry has are not sent; `mount_from` names repositories of the same registry that may have them. An
        image with a subject becomes visible as its referrer also where the registry does not know referrers.
        """
        ref = _parsed(ref)
        await self._push_blobs(ref, image, mount_from)
        return await self._put(ref, image.manifest, image.manifest_bytes)

    async def upload_ahead(self, ref: Reference | str, blob: Growing) -> None:
        """Upload a layer that is still being packed; `push` finds it there, or sends it again when this failed."""
        await self._transfer.upload_ahead(_parsed(ref), blob)

    async def push_index(
        self, ref: Reference | str, images: Sequence[Image], *, annotations: Mapping[str, str] | None = None, mount_from: Sequence[str] = ()
    ) -> str:
        """Upload a multi-platform image and return the digest of its index; `mount_from` as for `push`."""
        ref = _parsed(ref)
        for image in images:
            await self._push_blobs(ref, image, mount_from)
            await self._put(ref.with_digest(image.digest), image.manifest, image.manifest_bytes)
        index = index_of(images, annotations=annotations, docker=images[0].manifest.media_type == media.DOCKER_MANIFEST)
        return await self._put(ref, index, index.to_bytes())

    async def tag(self, resolved: Resolved, tag: str) -> None:
        """Give what was resolved another tag in the same repository; no blob moves."""
        await self._put(resolved.reference.with_tag(tag), resolved.document, resolved.data)

    async def tags(self, ref: Reference | str) -> tuple[str, ...]:
        """List the tags of a repository, sorted; none when the repository does not exist."""
        return await self._referrers.tags(_parsed(ref))

    async def referrers(self, ref: Reference, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """List what refers to a manifest (`ref` must have a digest), optionally of one artefact type."""
        return await self._referrers.of(ref, artifact_type)

    async def delete(self, ref: Reference | str) -> None:
        """Delete a manifest by its digest, or by its tag where the registry allows that."""
        ref = _parsed(ref)
        path = f"/v2/{ref.repository}/manifests/{ref.wanted}"
        await self._transport.request(
            ref.registry, "DELETE", path, what=f"delete {ref}", scope=_scope(ref, "pull,push,delete"), ok=(202, 200)
        )

    async def _document(self, ref: Reference, blobs: BlobDir) -> tuple[Manifest | ManifestIndex, bytes]:
        if ref.digest and blobs.has(ref.digest):
            data = blobs.read(ref.digest)
            return mf.read(data), data
        found = await self.resolve(ref)
        blobs.put_bytes(found.data)
        return found.document, found.data

    async def _push_blobs(self, ref: Reference, image: Image, mount_from: Sequence[str]) -> None:
        layers = _distinct(image.manifest.layers)
        await _gather(partial(self._transfer.upload, ref, d, image.blobs, mount_from) for d in layers)
        await self._transfer.upload_bytes(ref, image.manifest.config, image.config_bytes)

    async def _put(self, ref: Reference, document: Manifest | ManifestIndex, data: bytes) -> str:
        response = await self._transport.request(
            ref.registry,
            "PUT",
            f"/v2/{ref.repository}/manifests/{ref.digest or ref.wanted}",
            what=f"push {ref}",
            scope=_scope(ref, "pull,push"),
            ok=(201, 200, 202),
            headers={"Content-Type": document.media_type},
            body=data,
        )
        digest = dg.of_bytes(data)
        dg.expect(f"what {ref.registry} stored as {ref}", want=digest, got=response.headers.get("docker-content-digest", digest))
        if document.subject and not response.headers.get("oci-subject"):
            await self._referrers.add_to_fallback(ref, document, data)
        return digest


async def _gather(work: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run transfers a few at a time; the first error ends the others and is raised as it is."""
    slots = asyncio.Semaphore(_PARALLEL)

    async def one(job: Callable[[], Awaitable[None]]) -> None:
        async with slots:
            await job()

    tasks = [asyncio.ensure_future(one(job)) for job in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _parsed(ref: Reference | str) -> Reference:
    return parse_reference(ref) if isinstance(ref, str) else ref


def _scope(ref: Reference, actions: str) -> str:
    return f"repository:{ref.repository}:{actions}"


def _distinct(descriptors: Iterable[Descriptor]) -> list[Descriptor]:
    return list({d.digest: d for d in descriptors}.values())
