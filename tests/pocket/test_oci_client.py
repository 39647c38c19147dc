"""Against Debian's docker-registry: what a real registry does on good days."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import make_image
from registries import HTPASSWD, make_certificate, real_registry

from pocket.oci import digest as dg
from pocket.oci import reference
from pocket.oci.blobs import BlobDir
from pocket.oci.client import Client, Credentials, RegistryError, Retry
from pocket.oci.config import ImageConfig
from pocket.oci.image import artifact, describe_file, from_layers
from pocket.oci.manifest import Descriptor, ManifestError, Platform

REPORT = "application/vnd.example.report.v1+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def client(**options: object) -> Client:
    options.setdefault("environ", {})
    return Client(**options)  # type: ignore[arg-type]


async def test_an_image_survives_a_push_and_a_pull(registry: str, tmp_path: Path) -> None:
    image = make_image(tmp_path, b"one", b"two")
    async with client() as c:
        await c.ping(registry)
        assert await c.exists(f"{registry}/a/b:1") is None
        assert await c.push(f"{registry}/a/b:1", image) == image.digest
        assert await c.exists(f"{registry}/a/b:1") == image.digest
        got = await c.pull(f"{registry}/a/b:1", BlobDir(tmp_path / "in"))
        assert (got.manifest_bytes, got.config) == (image.manifest_bytes, image.config)
        for d in image.manifest.layers:
            assert dg.of_file(tmp_path / "in" / "sha256" / d.digest[7:]) == d.digest
        resolved = await c.resolve(f"{registry}/a/b:1")
        assert str(resolved.reference) == f"{registry}/a/b:1@{image.digest}"
        await c.tag(resolved, "2")
        assert await c.tags(f"{registry}/a/b") == ("1", "2")
        assert await c.tags(f"{registry}/no/such") == ()
        await c.delete(resolved.reference)
        assert await c.exists(resolved.reference) is None


async def test_a_pinned_image_that_is_there_needs_no_network(registry: str, tmp_path: Path) -> None:
    image = make_image(tmp_path, b"one")
    blobs = BlobDir(tmp_path / "in")
    async with client() as c:
        await c.push(f"{registry}/pinned", image)
        await c.pull(f"{registry}/pinned@{image.digest}", blobs)
        again = await c.pull(f"127.0.0.1:1/elsewhere@{image.digest}", blobs)
    assert again.digest == image.digest


async def test_platforms_share_one_name(registry: str, tmp_path: Path) -> None:
    amd, arm = make_image(tmp_path / "1", b"amd"), make_image(tmp_path / "2", b"arm", architecture="arm64")
    async with client() as c:
        digest = await c.push_index(f"{registry}/multi:1", [amd, arm], annotations={"k": "v"})
        assert (await c.resolve(f"{registry}/multi:1")).digest == digest
        got = await c.pull(f"{registry}/multi:1", BlobDir(tmp_path / "in"), platform=Platform("linux", "arm64"))
        assert got.digest == arm.digest
        with pytest.raises(ManifestError, match="no match for platform linux/s390x"):
            await c.pull(f"{registry}/multi:1", BlobDir(tmp_path / "in"), platform=Platform("linux", "s390x"))


async def test_docker_manifests_are_pushed_and_pulled(registry: str, tmp_path: Path) -> None:
    base = make_image(tmp_path, b"one")
    assert base.config is not None
    image = from_layers(base.config, base.manifest.layers, base.blobs, docker=True)
    async with client() as c:
        assert await c.push(f"{registry}/docker", image) == image.digest
        assert (await c.pull(f"{registry}/docker", BlobDir(tmp_path / "in"))).manifest.media_type == image.manifest.media_type


async def test_scratch_has_no_layers(registry: str, tmp_path: Path) -> None:
    async with client() as c:
        image = from_layers(ImageConfig(architecture="amd64"), [], BlobDir(tmp_path / "none"))
        await c.push(f"{registry}/scratch", image)
        assert (await c.pull(f"{registry}/scratch", BlobDir(tmp_path / "in"))).manifest.layers == ()


async def test_large_blobs_go_up_in_pieces(registry: str, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(os.urandom(300_001))
    layer = describe_file(tmp_path / "weights", "application/octet-stream", annotations={"org.opencontainers.image.title": "weights"})
    blobs = BlobDir(tmp_path / "blobs")
    with (tmp_path / "weights").open("rb") as f:
        blobs.put(f, want=layer)
    model = artifact("application/vnd.example.model", [layer], blobs)
    async with client(chunk=100_000) as c:
        digest = await c.push(f"{registry}/model:1", model)
        got = await c.pull(f"{registry}/model@{digest}", BlobDir(tmp_path / "in"))
    assert got.config is None
    assert got.manifest.layers[0].annotations == {"org.opencontainers.image.title": "weights"}
    assert (tmp_path / "in/sha256" / layer.digest[7:]).read_bytes() == (tmp_path / "weights").read_bytes()


async def test_blobs_are_mounted_from_other_repositories(registry: str, tmp_path: Path) -> None:
    image = make_image(tmp_path, b"mounted")
    async with client() as c:
        await c.push(f"{registry}/from", image)
        nothing = BlobDir(tmp_path / "none")
        bare = from_layers(image.config or ImageConfig(), image.manifest.layers, nothing)
        await c.push(f"{registry}/to", bare, mount_from=["no/such", "from"])
        assert (await c.pull(f"{registry}/to", BlobDir(tmp_path / "in"))).digest == image.digest


async def test_referrers_are_found_by_the_fall_back_tag(registry: str, tmp_path: Path) -> None:
    image = make_image(tmp_path, b"subject")
    blobs = BlobDir(tmp_path / "reports")
    async with client() as c:
        await c.push(f"{registry}/ref:1", image)
        subject = await c.resolve(f"{registry}/ref:1")
        assert await c.referrers(subject.reference) == ()
        made = []
        for i, kind in enumerate((REPORT, "application/other")):
            data = b'{"report":%d}' % i
            layer = Descriptor(media_type=kind, digest=blobs.put_bytes(data), size=len(data))
            report = artifact(kind, [layer], blobs, subject=subject.descriptor, annotations={"n": str(i)})
            made.append(await c.push(subject.reference.with_digest(report.digest), report))
            await c.push(subject.reference.with_digest(report.digest), report)
        assert [d.digest for d in await c.referrers(subject.reference)] == made
        (found,) = await c.referrers(subject.reference, REPORT)
        assert (found.digest, found.annotations["n"], found.artifact_type) == (made[0], "0", REPORT)
        pulled = await c.pull(subject.reference.with_digest(found.digest), BlobDir(tmp_path / "in"))
        assert pulled.manifest.subject == subject.descriptor
        with pytest.raises(RegistryError, match="has no digest"):
            await c.referrers(reference.parse(f"{registry}/ref:1"))


async def test_logins_come_from_arguments_and_from_docker_s_file(tmp_path: Path) -> None:
    image = make_image(tmp_path, b"private")
    with real_registry(tmp_path / "registry", htpasswd=HTPASSWD) as host:
        ref = f"{host}/private/x:1"
        async with client() as c:
            with pytest.raises(RegistryError, match="wants a login") as e:
                await c.push(ref, image)
            assert "docker login" in e.value.hint
        async with client(credentials={host: Credentials("user", "wrong")}) as c:
            with pytest.raises(RegistryError, match="does not accept the login of 'user'"):
                await c.ping(host)
        async with client(credentials={f"http://{host}/v2/": Credentials("user", "secret")}) as c:
            await c.push(ref, image)
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": "dXNlcjpzZWNyZXQ="}}}))
        async with client(environ={"DOCKER_CONFIG": str(tmp_path)}) as c:
            assert (await c.pull(ref, BlobDir(tmp_path / "in"))).digest == image.digest


async def test_tls_trusts_what_the_machine_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path)
    with real_registry(tmp_path / "registry", tls=certificate) as host:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        async with client() as c:
            await c.push(f"{host}/tls:1", make_image(tmp_path, b"x"))
        monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate_elsewhere(tmp_path)))
        async with client() as c:
            with pytest.raises(RegistryError, match="certificate is not trusted") as e:
                await c.ping(host)
        assert "SSL_CERT_FILE" in e.value.hint


def make_certificate_elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    return make_certificate(tmp_path / "other")[0]


async def test_what_is_not_there_is_told(registry: str, tmp_path: Path) -> None:
    async with client() as c:
        with pytest.raises(RegistryError, match=r"cannot pull .*/no:1: not found \(manifest unknown\)") as e:
            await c.pull(f"{registry}/no:1", BlobDir(tmp_path))
        assert e.value.status == 404
        assert "spelling" in e.value.hint


async def test_nobody_listening_is_a_refused_connection(tmp_path: Path) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with client(retry=Retry(sleep=sleep)) as c:
        for name in ("127.0.0.1:1", "localhost:1", "[::1]:1"):
            with pytest.raises(RegistryError, match="connection refused") as e:
                await c.push(f"{name}/none:latest", make_image(tmp_path, b"x"))
            assert "that the registry runs" in e.value.hint
        with pytest.raises(RegistryError, match="no such host"):
            await c.ping("no.such.host.invalid")
    assert len(waits) == 8
    assert waits[0] < waits[1]


def test_importing_references_does_not_cost_an_http_client() -> None:
    code = "import sys, pocket.oci.reference, pocket.oci.manifest; print({'httpx', 'asyncio', 'zstandard'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], capture_output=True)
    assert done.stdout == b"set()\n"
