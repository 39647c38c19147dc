"""`http`: a file from a URL. The answer is kept with its validators and asked for again only when it changed."""

from __future__ import annotations

import hashlib
import posixpath
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pocket.api.registry import field
from pocket.errors import PocketError
from pocket.graph import Leaf, digest_of
from pocket.ops.given import given
from pocket.store import disk
from pocket.store.index import Entry
from pocket.store.layer import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from pocket.engine import Engine
    from pocket.query import Obj


_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")


class HttpError(PocketError):
    """What was answered is not what was asked for, in the words of the Dagger engine."""

    hint_shown = False


@field("Query", "http")
async def http(
    e: Engine,
    _q: None,
    url: str,
    name: str | None = None,
    permissions: int | None = None,
    checksum: str | None = None,
    auth_header: Obj | None = None,
    experimental_service_host: Obj | None = None,
) -> Leaf:
    if experimental_service_host is not None:
        raise PocketError("not supported by pocket: http(experimentalServiceHost) — use a Dagger engine")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise PocketError(f"http: {url!r} is not an http or https address", hint="write http://… or https://…")
    base = name or posixpath.basename(parts.path) or "index"
    if "/" in base:
        raise PocketError(f"http: the name {base!r} must not contain a slash")
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise HttpError(f'invalid checksum "{checksum}": invalid checksum digest format')
    header = e.secrets.value(auth_header.state).decode() if auth_header is not None else ""
    with e.trace("Query.http", {"url": url}):
        digest = await _fetch(e, url, header, checksum or "")
    layer = await e.blocking(_placed, e, digest, base, 0o600 if permissions is None else permissions)
    return Leaf(given(layer), base)


async def _fetch(e: Engine, url: str, header: str, checksum: str) -> str:
    import httpx

    key = digest_of(["http", url, hashlib.sha256(header.encode()).hexdigest() if header else ""])
    if checksum and e.store.blobs.has(checksum):
        return checksum
    e.need_network(url)
    # What is kept is not what the checksum asks for, so "not modified" would be no answer.
    known = None if checksum else e.store.actions.get(key)
    headers = {"Authorization": header} if header else {}
    if known:
        headers |= {k: known[v] for k, v in (("If-None-Match", "etag"), ("If-Modified-Since", "modified")) if known.get(v)}
    work: Path = e.store.tmp()
    try:
        async with httpx.AsyncClient(follow_redirects=True, timeout=60) as client, client.stream("GET", url, headers=headers) as answer:
            if answer.status_code == 304 and known:
                return str(known["blobs"][0])
            if answer.status_code != 200:
                raise HttpError(f"invalid response status {answer.status_code} {answer.reason_phrase}", hint=f"check the address {url}")
            with (work / "body").open("wb") as out:
                async for chunk in answer.aiter_bytes(1 << 20):
                    out.write(chunk)
        digest = await e.blocking(e.store.blobs.put_file, work / "body")
        if checksum and digest != checksum:
            raise HttpError(f"http checksum mismatch: expected {checksum}, got {digest}")
        validators = {"etag": answer.headers.get("etag", ""), "modified": answer.headers.get("last-modified", "")}
        e.store.actions.put(key, {"blobs": [digest], **validators})
        return str(digest)
    except httpx.HTTPError as error:
        raise PocketError(
            f"http: cannot fetch {url}: {str(error) or type(error).__name__}", hint="check the network and the address"
        ) from error
    finally:
        disk.remove_tree(work)


def _placed(e: Engine, digest: str, name: str, mode: int) -> Snapshot:
    builder = e.store.layer_builder()
    with e.store.blobs.open(digest) as f:
        builder.write(name, f, Entry("f", mode & 0o7777))
    return Snapshot((builder.finish(),), digest_of(["http-file", digest, name, mode]))
