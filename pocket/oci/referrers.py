"""Lists in a registry: tags, and what refers to a manifest (OCI 1.1), with the tag scheme for registries that know no referrers.

The fall-back is one index under the tag `sha256-<hex>`. It is read, extended and written back without a lock, because registries
have none: two writers at the same instant may lose an entry, which the specification accepts.
"""

import re
from dataclasses import replace

import httpx

from pocket.oci import digest as dg
from pocket.oci import manifest as mf
from pocket.oci import media
from pocket.oci.failures import RegistryError
from pocket.oci.manifest import Descriptor, Manifest, ManifestIndex
from pocket.oci.reference import Reference
from pocket.oci.transport import Transport

_PAGES = 1000
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')


class Referrers:
    """Reads and extends lists."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def tags(self, ref: Reference) -> tuple[str, ...]:
        """List the tags of a repository, all pages."""
        found: set[str] = set()
        for page in await self._pages(ref, f"/v2/{ref.repository}/tags/list?n=1000", f"list the tags of {ref.name}"):
            found.update(str(t) for t in mf.load_object(page.content, "a list of tags").get("tags") or ())
        return tuple(sorted(found))

    async def of(self, ref: Reference, artifact_type: str) -> tuple[Descriptor, ...]:
        """List what refers to a manifest."""
        if not ref.digest:
            raise RegistryError(f"{ref} has no digest, and only digests have referrers", hint="resolve the reference first")
        query = f"?{httpx.QueryParams(artifactType=artifact_type)}" if artifact_type else ""
        path = f"/v2/{ref.repository}/referrers/{ref.digest}{query}"
        found: list[Descriptor] = []
        pages = await self._pages(ref, path, f"list the referrers of {ref}")
        for page in pages:
            document = mf.read(page.content, media.OCI_INDEX)
            if isinstance(document, ManifestIndex):
                found += document.manifests
        if not pages:
            found += (await self._fallback(ref)).manifests
        return tuple(d for d in found if artifact_type in ("", d.artifact_type))

    async def add_to_fallback(self, ref: Reference, document: Manifest | ManifestIndex, data: bytes) -> None:
        """Enter a manifest with a subject into the index under the fall-back tag."""
        if document.subject is None:
            return
        kind = document.artifact_type or (document.config.media_type if isinstance(document, Manifest) else "")
        entry = Descriptor(
            media_type=document.media_type,
            digest=dg.of_bytes(data),
            size=len(data),
            artifact_type=kind,
            annotations=document.annotations,
        )
        ref = ref.with_digest(document.subject.digest)
        old = await self._fallback(ref)
        if any(d.digest == entry.digest for d in old.manifests):
            return
        await self._transport.request(
            ref.registry,
            "PUT",
            _fallback_path(ref),
            what=f"record a referrer of {ref}",
            scope=f"repository:{ref.repository}:pull,push",
            ok=(201, 200, 202),
            headers={"Content-Type": media.OCI_INDEX},
            body=replace(old, manifests=(*old.manifests, entry)).to_bytes(),
        )

    async def _fallback(self, ref: Reference) -> ManifestIndex:
        response = await self._transport.request(
            ref.registry,
            "GET",
            _fallback_path(ref),
            what=f"list the referrers of {ref}",
            scope=f"repository:{ref.repository}:pull",
            ok=(200, 404),
            headers={"Accept": media.OCI_INDEX},
        )
        document = mf.read(response.content, media.OCI_INDEX) if response.status_code == 200 else None
        return document if isinstance(document, ManifestIndex) else ManifestIndex(manifests=())

    async def _pages(self, ref: Reference, path: str, what: str) -> list[httpx.Response]:
        """Follow `Link: …; rel="next"` within the registry; no page at all when the list does not exist."""
        pages: list[httpx.Response] = []
        while path and len(pages) < _PAGES:
            response = await self._transport.request(
                ref.registry, "GET", path, what=what, scope=f"repository:{ref.repository}:pull", ok=(200, 404, 405) if not pages else (200,)
            )
            if response.status_code != 200:
                break
            pages.append(response)
            following = _NEXT.search(response.headers.get("link", ""))
            target = response.url.join(following[1]) if following else None
            path = target.raw_path.decode() if target else ""
        return pages


def _fallback_path(ref: Reference) -> str:
    return f"/v2/{ref.repository}/manifests/{(ref.digest or '').replace(':', '-')}"
