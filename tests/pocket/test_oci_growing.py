"""Layers that are uploaded while they are packed."""

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from registries import real_registry

from pocket.oci.blobs import BlobDir, BlobError
from pocket.oci.client import Client, RegistryError
from pocket.oci.growing import Growing
from pocket.oci.image import artifact
from pocket.oci.manifest import Descriptor


def writing(path: Path, write: Callable[[Growing], None]) -> tuple[Growing, threading.Thread]:
    """Have a thread write a growing file."""
    out = path.open("wb", buffering=0)
    growing = Growing(path, out)

    def work() -> None:
        try:
            write(growing)
        finally:
            growing.fail()
            out.close()

    thread = threading.Thread(target=work)
    thread.start()
    return growing, thread


async def test_a_reader_gets_what_the_writer_wrote_even_when_it_was_removed(tmp_path: Path) -> None:
    first_read = threading.Event()

    def write(growing: Growing) -> None:
        growing.write(b"one")
        assert first_read.wait(60)
        (tmp_path / "blob").unlink()
        growing.write(b"two")
        growing.end("sha256:x")

    growing, thread = writing(tmp_path / "blob", write)
    got = []
    async for piece in growing.pieces():
        got.append(piece)
        first_read.set()
    thread.join()
    assert b"".join(got) == b"onetwo"
    assert len(got) == 2
    assert await growing.digest() == "sha256:x"


async def test_readers_of_what_was_given_up_are_told(tmp_path: Path) -> None:
    def half(growing: Growing) -> None:
        growing.write(b"half")

    growing, thread = writing(tmp_path / "blob", half)
    with pytest.raises(BlobError, match="not packed to its end"):
        [piece async for piece in growing.pieces()]
    with pytest.raises(BlobError):
        await growing.digest()
    thread.join()


async def test_a_push_finds_what_went_ahead(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    digest = "sha256:" + hashlib.sha256(data).hexdigest()

    def write(growing: Growing) -> None:
        for at in range(0, len(data), 1 << 19):
            growing.write(data[at : at + (1 << 19)])
        growing.end(digest)

    layer = Descriptor(media_type="application/octet-stream", digest=digest, size=len(data))
    nothing_here = BlobDir(tmp_path / "empty")  # so what the registry has in the end can only have come ahead
    with real_registry(tmp_path / "registry") as host:
        async with Client(environ={}) as client:
            growing, thread = writing(tmp_path / "blob", write)
            await client.upload_ahead(f"{host}/a:1", growing)
            image = artifact("a/b", [layer], nothing_here)
            assert await client.push(f"{host}/a:1", image) == image.digest
            await client.pull(f"{host}/a:1", BlobDir(tmp_path / "pulled"))
            assert (tmp_path / "pulled" / "sha256" / digest[7:]).read_bytes() == data
            thread.join()


async def test_a_registry_refuses_what_has_another_digest(tmp_path: Path) -> None:
    def write(growing: Growing) -> None:
        growing.write(b"something")
        growing.end("sha256:" + "0" * 64)

    with real_registry(tmp_path / "registry") as host:
        async with Client(environ={}) as client:
            growing, thread = writing(tmp_path / "blob", write)
            with pytest.raises(RegistryError):
                await client.upload_ahead(f"{host}/a:1", growing)
            await asyncio.to_thread(thread.join)
            assert not await client.tags(f"{host}/a")
