"""Which repositories of a registry have a layer, so that another one there can mount it and need not be sent it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pocket.graph import digest_of

if TYPE_CHECKING:
    from pocket.oci.image import Image
    from pocket.oci.reference import Reference
    from pocket.store.store import Store

_MOST = 3  # repositories that are tried: each refusal is a request


def note_places(store: Store, reference: Reference, images: Sequence[Image]) -> None:
    """Remember that a repository has the layers of images."""
    for layer in {layer.digest for image in images for layer in image.manifest.layers}:
        store.actions.put(_key(reference, layer), {"repository": reference.repository})


def known_places(store: Store, reference: Reference, images: Sequence[Image]) -> list[str]:
    """Name other repositories of a registry that are known to have layers of images."""
    layers = dict.fromkeys(layer.digest for image in images for layer in image.manifest.layers)
    records = (store.actions.get(_key(reference, layer)) for layer in layers)
    found = dict.fromkeys(record["repository"] for record in records if record)
    found.pop(reference.repository, None)
    return list(found)[:_MOST]


def _key(reference: Reference, layer: str) -> str:
    return digest_of(["place", reference.registry, layer])
