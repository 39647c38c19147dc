"""The remote layer cache: action records and their layers in a repository of any OCI registry.

`POCKET_CACHE_FROM` names repositories that are asked when the local cache has no record (several separated by commas),
`POCKET_CACHE_TO` one that gets what this session made. A record is an OCI artefact tagged with its key; a hit transfers the
record alone, and layers follow when something needs their files. Everything is verified: blobs by digest, layers by their
content, and, with `POCKET_CACHE_SIGNING_KEY`, records by an HMAC, so that who can only write to the registry cannot plant results.
A registry that fails costs a warning and the cache, never the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pocket.errors import PocketError, told
from pocket.graph import Outputs, digest_of
from pocket.oci.blobs import BlobDir
from pocket.oci.failures import RegistryError
from pocket.oci.image import artifact
from pocket.oci.manifest import Descriptor, Manifest
from pocket.oci.reference import Reference, parse
from pocket.ops.image import adopt_layer, pack_layer_blob
from pocket.solver import to_record
from pocket.store import disk
from pocket.store.layer import Layer, Snapshot

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.oci.client import Client

TYPE = "application/vnd.weighbridge.action.v1+json"
STREAM = "application/octet-stream"
NOT_FOUND = 404
FLUSH = 120.0  # seconds that the end of a session waits for uploads
_PARALLEL = 4
T = TypeVar("T")


class PoisonedError(PocketError):
    """What a remote cache gave is not what its record, or the signing key, says."""


@dataclass(slots=True)
class Traffic:
    """What went over the network."""

    hits: int = 0
    fetched: int = 0  # bytes of layers, streams and records
    written: int = 0  # records

    def describe(self) -> str:
        """Give one line for people."""
        return f"remote cache: {self.hits} hits, {self.fetched} bytes fetched, {self.written} records written"


@dataclass(slots=True)
class RemoteCache:
    """The remote caches of one session."""

    engine: Engine
    sources: tuple[Reference, ...]
    target: Reference | None
    signing_key: bytes
    traffic: Traffic = field(default_factory=Traffic)
    _client: Client | None = None
    _uploads: set[asyncio.Task[None]] = field(default_factory=set)
    _fetches: dict[str, asyncio.Task[Layer]] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PARALLEL))

    @classmethod
    def from_env(cls, engine: Engine) -> RemoteCache | None:
        """Read the variables; None when neither is set.

        Raises:
            InvalidReference: one of them is not the name of a repository.
        """
        named = [parse(r.strip()) for r in engine.environ.get("POCKET_CACHE_FROM", "").split(",") if r.strip()]
        to = engine.environ.get("POCKET_CACHE_TO", "").strip()
        if not named and not to:
            return None
        return cls(engine, tuple(named), parse(to) if to else None, engine.environ.get("POCKET_CACHE_SIGNING_KEY", "").encode())

    # --- asking
    async def lookup(self, key: str) -> Outputs | None:
        """Give the result that a remote cache has under a key, its layers not fetched yet."""
        for source in self.sources:
            outputs = await self._reading(source, self._result(source, key))
            if outputs is not None:
                self.traffic.hits += 1
                return outputs
        return None

    async def _result(self, source: Reference, key: str) -> Outputs | None:
        record = await self._record(source, key)
        return None if record is None else await self._outputs(source, record)

    async def _record(self, source: Reference, key: str) -> dict[str, Any] | None:
        client, reference = await self._connect(), source.with_tag(_tag(key))
        if await client.exists(reference) is None:
            return None
        resolved = await client.resolve(reference)
        manifest = resolved.document
        if not isinstance(manifest, Manifest) or manifest.artifact_type != TYPE:
            raise PoisonedError(f"{reference} is no action record")
        data = await self._blob(source, manifest.config)
        signature = manifest.annotations.get("signature", "")
        if self.signing_key and not hmac.compare_digest(signature.encode(), self._sign(data).encode()):
            raise PoisonedError(f"{reference} is not signed with this session's key")
        record: dict[str, Any] = json.loads(data)
        if record["key"] != key:
            raise PoisonedError(f"{reference} holds the record of another key")
        return record

    async def _outputs(self, source: Reference, record: dict[str, Any]) -> Outputs:
        if record["keys"].keys() != record["layers"].keys() or not all(isinstance(k, str) for k in record["keys"].values()):
            raise PoisonedError("a record does not name its outputs")
        streams = {}
        for name in ("stdout", "stderr", "combined"):
            if (descriptor := record["streams"].get(name)) is not None:
                streams[name] = self.engine.store.blobs.put_bytes(await self._blob(source, _descriptor(descriptor)))
        outputs = Outputs({n: Snapshot((), k) for n, k in record["keys"].items()}, record["exit"], cached=True)
        outputs.stdout, outputs.stderr, outputs.combined = (streams.get(n, "") for n in ("stdout", "stderr", "combined"))

        async def fetch() -> bool:
            return bool(await self._reading(source, self._materialize(source, record, outputs)))

        outputs.pending = fetch
        return outputs

    async def _materialize(self, source: Reference, record: dict[str, Any], outputs: Outputs) -> bool:
        """Fetch and unpack the layers of a result, bottom first, each once; False when the registry has failed before."""
        if source not in self.sources:
            return False
        snapshots = {}
        for name, rows in record["layers"].items():
            snapshot = Snapshot((), "remote")
            for row in rows:
                layer = await self._layer(source, row, snapshot)
                snapshot = Snapshot((*snapshot.layers, layer), "remote")
            snapshots[name] = Snapshot(snapshot.layers, record["keys"][name])
        outputs.snapshots = snapshots
        self.engine.store.actions.put(record["key"], to_record(outputs))  # the next session needs no network
        return True

    async def _layer(self, source: Reference, row: dict[str, Any], below: Snapshot) -> Layer:
        known = self.engine.store.actions.get(_layer_key(row["layer"]))
        if known is not None and (layer := self.engine.store.layer(known["layers"]["/"][0])) is not None:
            return layer
        name = f"{row['layer']} {row['digest']}"
        task = self._fetches.get(name)
        if task is None:
            task = self._fetches[name] = asyncio.ensure_future(self._fetch_layer(source, row, below))
            task.add_done_callback(lambda _: self._fetches.pop(name, None))
        return await asyncio.shield(task)

    async def _fetch_layer(self, source: Reference, row: dict[str, Any], below: Snapshot) -> Layer:
        descriptor = _descriptor(row)
        blobs = BlobDir(self.engine.store.tmp())
        try:
            async with self._slots:
                await (await self._connect()).fetch(source, descriptor, blobs)
            self.traffic.fetched += descriptor.size
            layer = await self.engine.blocking(adopt_layer, self.engine.store, blobs, descriptor, row["diff_id"], below)
        finally:
            await self.engine.blocking(disk.remove_tree, blobs.root)
        if layer.digest != row["layer"]:
            raise PoisonedError(f"a layer of the remote cache holds other files than its record says ({descriptor.digest})")
        self.engine.store.actions.put(_layer_key(layer.digest), {"layers": {"/": [layer.id]}})
        return layer

    async def _blob(self, source: Reference, descriptor: Descriptor) -> bytes:
        if descriptor.size > 64 << 20:
            raise PoisonedError(f"a record of {descriptor.size} bytes is none")
        blobs = BlobDir(self.engine.store.tmp())
        try:
            await (await self._connect()).fetch(source, descriptor, blobs)
            self.traffic.fetched += descriptor.size
            return blobs.read(descriptor.digest)
        finally:
            disk.remove_tree(blobs.root)

    # --- giving
    def offer(self, key: str, outputs: Outputs) -> None:
        """Upload a result in the background."""
        if self.target is not None:
            task = asyncio.ensure_future(self._upload(self.target, key, outputs))
            self._uploads.add(task)
            task.add_done_callback(self._uploads.discard)

    async def _upload(self, target: Reference, key: str, outputs: Outputs) -> None:
        async with self._slots:
            if self.target is None:
                return
            try:
                await self._put(target, key, outputs)
            except (PocketError, OSError) as e:
                if self.target is not None:
                    self._tell(f"nothing more is written to the remote cache {target.name}: {told(e)}")
                self.target = None  # not to try again and again

    async def _put(self, target: Reference, key: str, outputs: Outputs) -> None:
        store, blobs = self.engine.store, []
        layers: dict[str, list[dict[str, Any]]] = {}
        for name, snapshot in outputs.snapshots.items():
            layers[name] = []
            for layer in snapshot.layers:
                packed = await self.engine.blocking(pack_layer_blob, store, layer)
                blobs.append(packed.descriptor)
                layers[name].append({**_row(packed.descriptor), "diff_id": packed.diff_id, "layer": layer.digest})
        streams = {}
        for name in ("stdout", "stderr", "combined"):
            if digest := getattr(outputs, name):
                descriptor = Descriptor(media_type=STREAM, digest=digest, size=store.blobs.path(digest).stat().st_size)
                streams[name] = _row(descriptor)
                blobs.append(descriptor)
        record = {
            "key": key, "layers": layers, "streams": streams, "exit": outputs.exit_code,
            "keys": {n: s.key for n, s in outputs.snapshots.items()},
        }  # fmt: skip
        data = json.dumps(record, sort_keys=True).encode()
        notes = {"signature": self._sign(data)} if self.signing_key else {}
        image = artifact(TYPE, blobs, store.blobs, config_type=TYPE, config_bytes=data, annotations=notes)
        await (await self._connect()).push(target.with_tag(_tag(key)), image)
        self.traffic.written += 1

    # --- both
    async def close(self) -> None:
        """Wait a while for uploads, and say what was transferred."""
        if self._uploads:
            await asyncio.wait(self._uploads, timeout=FLUSH)
            for task in self._uploads:
                task.cancel()
        if self._client is not None:
            await self._client.__aexit__(None, None, None)
        print(f"pocket: {self.traffic.describe()}", file=sys.stderr, flush=True)

    async def _connect(self) -> Client:
        if self._client is None:
            from pocket.ops.registry import client_of

            self._client = client_of(self.engine)
        return self._client

    def _sign(self, data: bytes) -> str:
        return hmac.new(self.signing_key, data, hashlib.sha256).hexdigest()

    async def _reading(self, source: Reference, work: Awaitable[T]) -> T | None:
        """Read from a registry. One that fails is not asked again; content that is not right is refused, and told each time."""
        try:
            return await work
        except RegistryError as e:
            if e.status == NOT_FOUND:
                self._tell(f"the remote cache {source.name} has lost something: {e}")
            elif source in self.sources:
                self.sources = tuple(s for s in self.sources if s != source)
                if not e.status and self.target is not None and self.target.registry == source.registry:
                    self.target = None  # it cannot be reached at all, which is worth one warning
                self._tell(f"going on without the remote cache {source.name}: {told(e)}")
        except (PocketError, OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            self._tell(f"refused what the remote cache {source.name} has: {_words(e)}")
        return None

    @staticmethod
    def _tell(text: str) -> None:
        print(f"pocket: {text}", file=sys.stderr, flush=True)


def _words(e: Exception) -> str:
    return str(e) if isinstance(e, PocketError | OSError) else f"a record is malformed ({type(e).__name__}: {e})"


def _tag(key: str) -> str:
    return f"a-{key}"


def _layer_key(digest: str) -> str:
    return digest_of(["layer", digest])


def _row(descriptor: Descriptor) -> dict[str, Any]:
    return {"media": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def _descriptor(row: dict[str, Any]) -> Descriptor:
    return Descriptor(media_type=row["media"], digest=row["digest"], size=row["size"])
