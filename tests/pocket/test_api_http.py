"""Files from URLs: kept with their validators, checked, and fetched with the secrets that were given."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from inprocess import Api
from sessions import Failed, Step

from pocket.api.registry import REGISTRY
from pocket.query import Executor


@dataclass
class Site:
    """A web server on loopback: one page, its validator, and what was asked."""

    port: int = 0
    page: bytes = b"page"
    etag: str = '"1"'
    asked: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str = "/dir/file.txt") -> str:
        """Give an address."""
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append({k.lower(): v for k, v in self.headers.items()})
            status = 404 if self.path == "/missing" else 304 if self.headers.get("If-None-Match") == found.etag else 200
            body = found.page if status == 200 else b""
            self.send_response(status)
            self.send_header("ETag", found.etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    found.port = server.server_port
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def anew(api: Api) -> Api:
    """Ask as a later session would: nothing is remembered but the cache."""
    return Api(api.engine, Executor(api.engine, REGISTRY))


async def test_a_file_and_its_name_and_mode(api: Api, site: Site) -> None:
    file: Step = ("http", {"url": site.url()})
    assert await api(file, "contents") == "page"
    assert await api(file, "name") == "file.txt"
    assert await api(file, "stat", "permissions") == 0o600
    assert await api(("http", {"url": site.url("/"), "name": "n", "permissions": 0o755}), "stat", "permissions") == 0o755
    assert await api(("http", {"url": site.url("/")}), "name") == "index"


async def test_it_is_fetched_again_only_when_it_changed(api: Api, site: Site) -> None:
    file: Step = ("http", {"url": site.url()})
    assert await api(file, "contents") == "page"
    assert await anew(api)(file, "contents") == "page"
    assert site.asked[1]["if-none-match"] == '"1"'
    site.page, site.etag = b"changed", '"2"'
    assert await anew(api)(file, "contents") == "changed"


async def test_a_checksum_is_checked_and_spares_the_way(api: Api, site: Site) -> None:
    assert await api(("http", {"url": site.url()}), "contents") == "page"
    good = "sha256:" + hashlib.sha256(b"page").hexdigest()
    assert await api(("http", {"url": site.url(), "checksum": good}), "contents") == "page"
    assert await api(("http", {"url": site.url("/elsewhere"), "checksum": good}), "contents") == "page"
    assert len(site.asked) == 1
    with pytest.raises(Failed):
        await api(("http", {"url": site.url(), "checksum": "sha256:" + "0" * 64}), "contents")


async def test_the_secret_is_sent_and_not_said(api: Api, site: Site) -> None:
    secret = await api(("setSecret", {"name": "h", "plaintext": "Bearer hidden-token"}), "id")
    assert await api(("http", {"url": site.url(), "authHeader": secret}), "contents") == "page"
    assert site.asked[-1]["authorization"] == "Bearer hidden-token"
    with pytest.raises(Failed) as caught:
        await api(("http", {"url": site.url("/missing"), "authHeader": secret}), "contents")
    assert "invalid response status 404" in str(caught.value)
    assert "hidden-token" not in str(caught.value) + str(caught.value.extensions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "ftp://x/y"}, "not an http or https address"),
        ({"url": "plain"}, "not an http or https address"),
        ({"url": "http://127.0.0.1:1/x"}, "cannot fetch http://127.0.0.1:1/x"),
        ({"url": "http://127.0.0.1:1/x", "name": "a/b"}, "must not contain a slash"),
    ],
)
async def test_what_cannot_be_had_is_said(api: Api, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(Failed, match=message):
        await api(("http", arguments), "contents")
