"""Against a scripted registry: what happens on bad days, and what must never be sent."""

import base64
import email.utils
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from registries import Asked, Reply, make_certificate, scripted_registry

from pocket.errors import PocketError
from pocket.oci import digest as dg
from pocket.oci.auth import Challenge, challenge
from pocket.oci.blobs import BlobDir, BlobError
from pocket.oci.client import Client, Credentials, RegistryError, Retry
from pocket.oci.image import artifact
from pocket.oci.manifest import Descriptor, Manifest, ManifestIndex
from pocket.oci.reference import Reference, parse
from pocket.oci.transport import is_loopback

DATA = bytes(range(256)) * 2000
BLOB = Descriptor(media_type="application/octet-stream", digest=dg.of_bytes(DATA), size=len(DATA))
EMPTY = Descriptor(media_type="application/vnd.oci.empty.v1+json", digest=dg.of_bytes(b"{}"), size=2)
MANIFEST = Manifest(config=EMPTY, layers=(BLOB,), artifact_type="application/x").to_bytes()
BASIC = "Basic " + base64.b64encode(b"u:p").decode()


class Waits:
    """Stands in for the clock and remembers how long it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def client(*, waits: Waits | None = None, attempts: int = 5, **options: object) -> Client:
    options.setdefault("environ", {})
    return Client(retry=Retry(attempts=attempts, sleep=waits or Waits()), **options)  # type: ignore[arg-type]


def serve(asked: Asked) -> Reply:
    """Answer as a well-behaved registry with one artefact."""
    if "/manifests/" in asked.path:
        return Reply(headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"}, body=MANIFEST)
    if asked.path.endswith(BLOB.digest):
        return Reply(body=DATA)
    return Reply(body=b"{}") if asked.path.endswith(EMPTY.digest) else Reply(404)


def once(
    first: Reply, *, when: Callable[[Asked], bool] = lambda _: True, then: Callable[[Asked], Reply] = serve
) -> Callable[[Asked], Reply]:
    """Answer the first matching request differently."""
    done: list[bool] = []

    def script(asked: Asked) -> Reply:
        if not done and when(asked):
            done.append(True)
            return first
        return then(asked)

    return script


async def test_busy_registries_are_asked_again_after_as_long_as_they_say(tmp_path: Path) -> None:
    later = email.utils.formatdate(time.time() + 40, usegmt=True)
    for reply, least, most in (
        (Reply(429, {"Retry-After": "7"}), 7, 7.1),
        (Reply(503, {"Retry-After": later}), 30, 40),
        (Reply(500), 0.1, 0.4),
        (Reply(429, {"Retry-After": "9999"}), 60, 60),
    ):
        waits = Waits()
        async with scripted_registry(once(reply)) as r, client(waits=waits) as c:
            await c.resolve(f"{r.host}/x")
        (wait,) = waits.seconds
        assert least <= wait <= most


@pytest.mark.parametrize(
    ("status", "sentence", "advice", "requests"),
    [
        (401, "wants a login", "log in", 1),
        (403, "does not allow it to an anonymous client", "ask the owner", 1),
        (404, "not found", "spelling", 1),
        (418, "answered 418", "reference", 1),
        (429, "limits the number of requests", "wait a while", 3),
        (503, "answered 503", "try again later", 3),
    ],
)
async def test_every_refusal_has_a_sentence_and_advice(status: int, sentence: str, advice: str, requests: int) -> None:
    body = b'{"errors":[{"code":"X","message":"in its\\u001b[31m own words"}]}'
    async with scripted_registry(lambda _: Reply(status, body=body)) as r, client(attempts=3) as c:
        with pytest.raises(RegistryError, match=sentence) as e:
            await c.resolve(f"{r.host}/x:1")
    assert e.value.status == status
    assert advice in e.value.hint
    assert "in its [31m own words" in str(e.value)
    assert len(r.asked) == requests


async def test_a_broken_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    def ranged(asked: Asked) -> Reply:
        start = asked.headers.get("range")
        if start and asked.path.endswith(BLOB.digest):
            return Reply(206, body=DATA[int(start[6:-1]) :])
        return serve(asked)

    async with (
        scripted_registry(once(Reply(body=DATA, cut=200_000), when=lambda a: a.path.endswith(BLOB.digest), then=ranged)) as r,
        client() as c,
    ):
        await c.pull(f"{r.host}/x", BlobDir(tmp_path))
    assert any(a.headers.get("range", "").startswith("bytes=") for a in r.asked)
    assert (tmp_path / "sha256" / BLOB.digest[7:]).read_bytes() == DATA


async def test_a_registry_without_ranges_is_read_again_from_the_start(tmp_path: Path) -> None:
    async with scripted_registry(once(Reply(body=DATA, cut=200_000), when=lambda a: a.path.endswith(BLOB.digest))) as r, client() as c:
        await c.pull(f"{r.host}/x", BlobDir(tmp_path))
    assert (tmp_path / "sha256" / BLOB.digest[7:]).read_bytes() == DATA


@pytest.mark.parametrize("body", [DATA[:-1] + b"!", DATA + b"!", DATA[:-1]])
async def test_content_that_is_not_what_was_named_is_never_kept(tmp_path: Path, body: bytes) -> None:
    def script(asked: Asked) -> Reply:
        return Reply(body=body) if asked.path.endswith(BLOB.digest) else serve(asked)

    async with scripted_registry(script) as r, client() as c:
        with pytest.raises((dg.DigestError, BlobError)):
            await c.pull(f"{r.host}/x", BlobDir(tmp_path))
    assert not BlobDir(tmp_path).has(BLOB.digest)
    assert [p.name for p in (tmp_path / "sha256").iterdir() if p.name.startswith(".")] == []


async def test_a_manifest_must_have_its_digest() -> None:
    async with scripted_registry(serve) as r, client() as c:
        with pytest.raises(dg.DigestError):
            await c.resolve(f"{r.host}/x@sha256:{'0' * 64}")
    async with scripted_registry(lambda _: Reply(headers={"Docker-Content-Digest": EMPTY.digest}, body=MANIFEST)) as r, client() as c:
        with pytest.raises(dg.DigestError):
            await c.resolve(f"{r.host}/x")
    async with scripted_registry(lambda _: Reply(body=bytes(20 << 20))) as r, client() as c:
        with pytest.raises(RegistryError, match="sent more than"):
            await c.resolve(f"{r.host}/x")


async def test_tokens_are_fetched_per_scope_kept_and_renewed(tmp_path: Path) -> None:
    tokens = iter(range(100))
    valid: set[str] = set()

    def script(asked: Asked) -> Reply:
        if asked.path == "/token":
            token = f"t{next(tokens)}"
            valid.add(f"Bearer {token}")
            return Reply(body=b'{"token":"%s"}' % token.encode())
        if asked.headers.get("authorization") not in valid:
            realm = f'Bearer realm="http://{asked.headers["host"]}/token",service="s",scope="repository:extra:pull"'
            return Reply(401, {"WWW-Authenticate": realm})
        return serve(asked)

    async with scripted_registry(script) as r, client(credentials={r.host: Credentials("u", "p")}) as c:
        await c.resolve(f"{r.host}/x")
        await c.resolve(f"{r.host}/x")
        asked = [a for a in r.asked if a.path == "/token"]
        assert [a.headers.get("authorization") for a in asked] == [BASIC]
        assert asked[0].target == "/token?service=s&scope=repository%3Ax%3Apull&scope=repository%3Aextra%3Apull"
        valid.clear()
        await c.resolve(f"{r.host}/x")
    assert sum(a.path == "/token" for a in r.asked) == 2
    assert sum(a.path != "/token" for a in r.asked) == 2 + 1 + 2


async def test_identity_tokens_are_exchanged() -> None:
    def script(asked: Asked) -> Reply:
        if asked.path == "/token":
            assert b"refresh_token=idt" in asked.body
            return Reply(body=b'{"access_token":"a"}')
        ok = asked.headers.get("authorization") == "Bearer a"
        return serve(asked) if ok else Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{asked.headers["host"]}/token"'})

    async with scripted_registry(script) as r, client(credentials={r.host: Credentials("<token>", identity_token="idt")}) as c:
        await c.resolve(f"{r.host}/x")


@pytest.mark.parametrize("reply", [Reply(401), Reply(body=b"{}"), Reply(body=b"[]"), Reply(500)])
async def test_token_services_fail_with_a_sentence(reply: Reply) -> None:
    def script(asked: Asked) -> Reply:
        return reply if asked.path == "/token" else Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{asked.headers["host"]}/token"'})

    async with scripted_registry(script) as r, client(attempts=2) as c:
        with pytest.raises(RegistryError) as e:
            await c.resolve(f"{r.host}/x")
    assert e.value.hint


async def test_a_login_never_follows_a_redirect_to_another_host(tmp_path: Path) -> None:
    async with scripted_registry(lambda _: Reply(body=DATA)) as cdn:

        def script(asked: Asked) -> Reply:
            if asked.headers.get("authorization") != BASIC:
                return Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
            return Reply(307, {"Location": f"http://{cdn.host}/blob"}) if asked.path.endswith(BLOB.digest) else serve(asked)

        async with scripted_registry(script) as r, client(credentials={r.host: Credentials("u", "p")}) as c:
            await c.pull(f"{r.host}/x", BlobDir(tmp_path))
        assert BASIC in r.seen()
        assert cdn.seen() == [""]
        assert (tmp_path / "sha256" / BLOB.digest[7:]).read_bytes() == DATA


async def test_a_login_never_goes_to_an_upload_on_another_host(tmp_path: Path) -> None:
    async with scripted_registry(lambda _: Reply(201)) as other:

        def script(asked: Asked) -> Reply:
            if asked.headers.get("authorization") != BASIC:
                return Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
            if asked.method == "POST":
                return Reply(202, {"Location": f"http://{other.host}/upload?s=1"})
            return Reply(201) if asked.method == "PUT" else Reply(404)

        blobs = BlobDir(tmp_path)
        blobs.put_bytes(DATA)
        async with scripted_registry(script) as r, client(credentials={r.host: Credentials("u", "p")}) as c:
            await c.push(f"{r.host}/x", artifact("application/x", [BLOB], blobs))
        assert other.seen() == ["", ""]
        assert other.asked[0].target == f"/upload?s=1&digest={BLOB.digest}"
        assert other.asked[0].body == DATA


async def test_relative_redirects_are_followed_and_loops_end() -> None:
    async with scripted_registry(once(Reply(302, {"Location": "/v2/y/manifests/1"}))) as r, client() as c:
        await c.resolve(f"{r.host}/x")
        assert [a.path for a in r.asked] == ["/v2/x/manifests/latest", "/v2/y/manifests/1"]
    async with scripted_registry(lambda _: Reply(307, {"Location": "/again"})) as r, client() as c:
        with pytest.raises(RegistryError, match="redirects more than 5 times"):
            await c.resolve(f"{r.host}/x")
    async with scripted_registry(lambda _: Reply(307, {"Location": "ftp://x/y"})) as r, client() as c:
        with pytest.raises(RegistryError, match="leads to ftp://x"):
            await c.resolve(f"{r.host}/x")


async def test_tls_is_never_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with scripted_registry(serve) as plain:
        redirect = Reply(307, {"Location": f"http://{plain.host}/x"})
        realm = Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{plain.host}/t"'})
        for reply in (redirect, realm):
            async with (
                scripted_registry(once(reply, then=lambda _: Reply(404)), tls=tls) as r,
                client(credentials={r.host: Credentials("u", "p")}) as c,
            ):
                with pytest.raises(RegistryError, match=r"leads to http://|which is not https"):
                    await c.resolve(f"{r.host}/x")
        assert plain.asked == []


def test_only_this_machine_is_spoken_to_without_tls() -> None:
    for name in ("127.0.0.1", "127.9.9.9:5000", "localhost", "localhost:1", "[::1]:5000", "[::1]", "a.localhost"):
        assert is_loopback(name)
    for name in ("docker.io", "10.0.0.1:5000", "127.0.0.1.example.com", "localhost.example.com", "[::2]:5000", "128.0.0.1", "notlocalhost"):
        assert not is_loopback(name)


async def test_plain_http_elsewhere_must_be_asked_for() -> None:
    """A spelling of this host that is not known as loopback stands for a remote registry."""
    async with scripted_registry(serve) as r:
        remote = f"127.1:{r.host.rpartition(':')[2]}"
        assert not is_loopback(remote)
        async with client(attempts=1) as c:
            with pytest.raises(RegistryError, match="TLS failed"):
                await c.resolve(Reference(remote, "x"))
        async with client(plain_http=[remote]) as c:
            await c.resolve(Reference(remote, "x"))
    assert len(r.asked) == 1


async def test_pieces_resume_after_a_failure_where_the_registry_says(tmp_path: Path) -> None:
    got = bytearray()
    state = {"n": 0}

    def script(asked: Asked) -> Reply:
        location = {"Location": "/upload/1"}
        if asked.method == "POST":
            return Reply(202, location)
        if asked.method == "PATCH":
            start = int(asked.headers["content-range"].partition("-")[0])
            if start != len(got):
                return Reply(416, {**location, "Range": f"0-{len(got) - 1}"})
            state["n"] += 1
            if state["n"] == 2:  # keeps half of the piece, then fails
                got.extend(asked.body[: len(asked.body) // 2])
                return Reply(503)
            got.extend(asked.body)
            return Reply(202, {**location, "Range": f"0-{len(got) - 1}"})
        if asked.method == "GET" and asked.path == "/upload/1":
            return Reply(204, {**location, "Range": f"0-{len(got) - 1}"})
        return Reply(201) if asked.method == "PUT" else Reply(404)

    blobs = BlobDir(tmp_path)
    blobs.put_bytes(DATA)
    async with scripted_registry(script) as r, client(chunk=100_000) as c:
        await c.push(f"{r.host}/x", artifact("application/x", [BLOB], blobs))
    assert bytes(got) == DATA
    assert state["n"] == 6


async def test_pages_of_tags_are_followed_within_the_registry() -> None:
    def script(asked: Asked) -> Reply:
        if "last=b" in asked.target:
            return Reply(body=b'{"tags":["c"]}')
        return Reply(headers={"Link": '<http://elsewhere.invalid/v2/x/tags/list?n=2&last=b>; rel="next"'}, body=b'{"tags":["b","a"]}')

    async with scripted_registry(script) as r, client() as c:
        assert await c.tags(f"{r.host}/x") == ("a", "b", "c")


async def test_referrers_come_from_the_api_where_there_is_one(tmp_path: Path) -> None:
    entry = Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=BLOB.digest, size=1, artifact_type="application/a")
    other = Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=EMPTY.digest, size=1, artifact_type="application/b")

    def script(asked: Asked) -> Reply:
        if "/referrers/" in asked.path:
            return Reply(body=ManifestIndex(manifests=(entry, other)).to_bytes())
        if asked.method == "PUT":
            return Reply(201, {"OCI-Subject": BLOB.digest})
        return Reply(202, {"Location": "/u"}) if asked.method == "POST" else Reply(404)

    async with scripted_registry(script) as r, client() as c:
        ref = parse(f"{r.host}/x@{BLOB.digest}")
        assert await c.referrers(ref, "application/a") == (entry,)
        assert "artifactType=application%2Fa" in r.asked[0].target
        await c.push(f"{r.host}/x", artifact("application/x", [], BlobDir(tmp_path), subject=entry))
    assert [a.path for a in r.asked if a.method == "PUT"] == ["/u", "/v2/x/manifests/latest"]


async def test_a_blob_that_shrank_is_not_sent(tmp_path: Path) -> None:
    blobs = BlobDir(tmp_path)
    (tmp_path / "sha256").mkdir()
    blobs.path(BLOB.digest).write_bytes(DATA[:-5])

    def script(asked: Asked) -> Reply:
        return Reply(202, {"Location": "/u"}) if asked.method == "POST" else Reply(404)

    async with scripted_registry(script) as r, client() as c:
        with pytest.raises(PocketError, match="less than its"):
            await c.push(f"{r.host}/x", artifact("application/x", [BLOB], blobs))


def test_challenges() -> None:
    assert challenge('Bearer realm="https://a/t",service="s, t",scope="repository:x:pull,push",error="insufficient_scope"') == Challenge(
        "bearer", "https://a/t", "s, t", "repository:x:pull,push", "insufficient_scope"
    )
    assert challenge('Basic realm="Bearer of news", Bearer realm="r"') == Challenge("bearer", "r")
    assert challenge("basic") == Challenge("basic")
    assert challenge('Digest realm="x"') is None
    assert challenge('bearer realm="a\\"b"') == Challenge("bearer", 'a"b')
