"""Mirrors: asked first and in order, trusted with nothing, and no harm when they fail."""

from pathlib import Path

import pytest
from pocket_session import session, sh
from registries import Asked, Reply, real_registry, scripted_registry

from pocket.errors import PocketError
from pocket.oci import digest as dg
from pocket.oci.archive import read as read_archive
from pocket.oci.blobs import BlobDir
from pocket.oci.client import Client, Credentials, RegistryError, Retry
from pocket.oci.image import artifact
from pocket.oci.manifest import Descriptor, Manifest
from pocket.oci.mirrors import Mirrors
from pocket.oci.reference import parse

DATA = b"what was asked for" * 1000
BLOB = Descriptor(media_type="application/octet-stream", digest=dg.of_bytes(DATA), size=len(DATA))
EMPTY = Descriptor(media_type="application/vnd.oci.empty.v1+json", digest=dg.of_bytes(b"{}"), size=2)
MANIFEST = Manifest(config=EMPTY, layers=(BLOB,), artifact_type="application/x").to_bytes()


async def no_wait(_: float) -> None:
    """Stand in for the clock."""


def client(mirrors: str, **options: object) -> Client:
    return Client(environ={"POCKET_REGISTRY_MIRRORS": mirrors}, retry=Retry(attempts=2, sleep=no_wait), **options)  # type: ignore[arg-type]


def serve(asked: Asked) -> Reply:
    """Answer as a well-behaved registry with one artefact."""
    if "/manifests/" in asked.path:
        return Reply(headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"}, body=MANIFEST)
    if asked.path.endswith(BLOB.digest):
        return Reply(body=DATA)
    return Reply(body=b"{}") if asked.path.endswith(EMPTY.digest) else Reply(404)


@pytest.mark.parametrize("text", [
    "docker.io", "=m.example", "docker.io=", "docker=m.example", "docker.io=Not A Host", "docker.io=ftp://m.example", "a/b=m.example",
    "docker.io=m.example/UPPER",
])  # fmt: skip
def test_what_is_no_mirror_is_told_with_an_example(text: str) -> None:
    with pytest.raises(PocketError, match="POCKET_REGISTRY_MIRRORS") as caught:
        Mirrors.from_env({"POCKET_REGISTRY_MIRRORS": text})
    assert "docker.io=mirror.example/hub" in caught.value.hint


def test_places_come_in_order_and_the_registry_last() -> None:
    mirrors = Mirrors.from_env(
        {"POCKET_REGISTRY_MIRRORS": "docker.io=m.example/hub, docker.io=http://10.0.0.1:5000,ghcr.io=https://n.example/"}
    )
    assert [str(p) for p in mirrors.places(parse("alpine:3"))] == [
        "m.example/hub/library/alpine:3", "10.0.0.1:5000/library/alpine:3", "docker.io/library/alpine:3",
    ]  # fmt: skip
    assert [str(p) for p in mirrors.places(parse("ghcr.io/a/b:1"))] == ["n.example/a/b:1", "ghcr.io/a/b:1"]
    assert [str(p) for p in mirrors.places(parse("quay.io/a:1"))] == ["quay.io/a:1"]
    assert mirrors.plain == {"10.0.0.1:5000"}
    assert not Mirrors.from_env({}).table


async def test_a_mirror_is_enough(tmp_path: Path) -> None:
    async with (
        scripted_registry(serve) as mirror,
        scripted_registry(lambda _: Reply(500)) as origin,
        client(f"{origin.host}={mirror.host}/hub") as c,
    ):
        got = await c.pull(f"{origin.host}/x:1", BlobDir(tmp_path))
        assert (await c.resolve(f"{origin.host}/x:1")).reference.name == f"{origin.host}/x"
    assert got.manifest.layers == (BLOB,)
    assert {a.path.split("/")[2:4][0] for a in mirror.asked} == {"hub"}
    assert not origin.asked


@pytest.mark.parametrize(("answer", "asked_again"), [
    (Reply(404), True), (Reply(500), False), (Reply(503), False), (Reply(401), False), (Reply(403), False), (Reply(429), False),
    (Reply(body=b"<html>a portal"), True), (Reply(body=b"short", cut=2, headers={"Content-Length": "5"}), False),
])  # fmt: skip
async def test_a_mirror_that_fails_is_passed_over(tmp_path: Path, answer: Reply, asked_again: bool) -> None:
    async with (
        scripted_registry(lambda _: answer) as mirror,
        scripted_registry(serve) as origin,
        client(f"{origin.host}={mirror.host}") as c,
    ):
        got = await c.pull(f"{origin.host}/x:1", BlobDir(tmp_path))
    assert got.manifest.layers == (BLOB,)
    manifests = [a for a in mirror.asked if "/manifests/" in a.path]
    assert manifests
    assert (len(mirror.asked) > len(manifests)) == asked_again


async def test_a_mirror_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    async with (
        scripted_registry(serve) as second,
        scripted_registry(lambda _: Reply(500)) as origin,
        client(f"{origin.host}=127.0.0.1:1,{origin.host}={second.host}") as c,
    ):
        assert (await c.pull(f"{origin.host}/x:1", BlobDir(tmp_path))).manifest.layers == (BLOB,)
    assert not origin.asked


async def test_content_of_a_mirror_is_verified(tmp_path: Path) -> None:
    """A blob that is not what it should be is had from the registry; a pinned manifest likewise."""

    def lie(asked: Asked) -> Reply:
        if "/manifests/" in asked.path:
            return Reply(headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"}, body=MANIFEST.replace(b"/x", b"/y"))
        return Reply(body=DATA[:-1] + b"!")

    async with scripted_registry(lie) as mirror, scripted_registry(serve) as origin, client(f"{origin.host}={mirror.host}") as c:
        got = await c.pull(f"{origin.host}/x@{dg.of_bytes(MANIFEST)}", BlobDir(tmp_path))
    assert got.manifest_bytes == MANIFEST
    assert (tmp_path / "sha256" / BLOB.digest[7:]).read_bytes() == DATA
    assert len(origin.asked) == len(mirror.asked) == 3


async def test_a_login_is_not_told_to_a_mirror(tmp_path: Path) -> None:
    def guarded(asked: Asked) -> Reply:
        return serve(asked) if "authorization" in asked.headers else Reply(401, {"WWW-Authenticate": "Basic realm=x"})

    async with (
        scripted_registry(guarded) as mirror,
        scripted_registry(guarded) as origin,
        client(f"{origin.host}={mirror.host}", credentials={origin.host: Credentials("u", "p")}) as c,
    ):
        await c.pull(f"{origin.host}/x:1", BlobDir(tmp_path))
    assert mirror.asked
    assert not any(mirror.seen())
    assert any(origin.seen())


async def test_the_registrys_own_error_counts() -> None:
    async with (
        scripted_registry(lambda _: Reply(500)) as mirror,
        scripted_registry(lambda _: Reply(404)) as origin,
        client(f"{origin.host}={mirror.host}") as c,
    ):
        with pytest.raises(RegistryError, match="not found") as caught:
            await c.resolve(f"{origin.host}/x:1")
    assert caught.value.status == 404


async def test_nothing_is_written_to_a_mirror(tmp_path: Path) -> None:
    def accept(asked: Asked) -> Reply:
        if asked.method == "POST":
            return Reply(202, {"Location": f"/v2/x/blobs/uploads/{len(asked.target)}"})
        return Reply(201) if asked.method == "PUT" else Reply(404)

    blobs = BlobDir(tmp_path)
    blobs.put_bytes(DATA)
    async with scripted_registry(accept) as mirror, scripted_registry(accept) as origin, client(f"{origin.host}={mirror.host}") as c:
        await c.push(f"{origin.host}/x:1", artifact("application/x", [BLOB], blobs))
    assert not mirror.asked
    assert origin.asked


async def test_a_session_takes_an_image_of_docker_io_from_a_mirror(tmp_path: Path, base_archive: Path) -> None:
    with real_registry(tmp_path / "registry") as host:
        async with Client(environ={}) as c:
            await c.push(f"{host}/hub/library/base:1", read_archive(base_archive, BlobDir(tmp_path / "blobs")))
        with session(tmp_path / "cache", tmp_path / "log", env={"POCKET_REGISTRY_MIRRORS": f"docker.io={host}/hub"}) as s:
            asked = '{container{from(address:"base:1"){imageRef ' + sh("cat /etc/base-release") + "{stdout}}}}"
            got = s.ok(asked, "container", "from")
    assert got["withExec"]["stdout"] == "conformance 1\n"
    assert got["imageRef"].startswith("docker.io/library/base:1@sha256:")
