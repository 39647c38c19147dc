"""`address`: what one text means as an image, directory, file, repository, secret, service or socket."""

import functools
import http.server
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from inprocess import Api
from sessions import Failed


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
        """Say nothing."""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository with a file on main, and another on the branch side."""
    place = tmp_path / "repo"
    (place / "sub").mkdir(parents=True)
    (place / "sub/f").write_text("on main")
    settings = ("-c", "user.name=n", "-c", "user.email=e@localhost", "-c", "commit.gpgsign=false")

    def git(*words: str) -> None:
        subprocess.run(["git", *settings, *words], cwd=place, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "one")
    git("checkout", "-qb", "side")
    (place / "sub/f").write_text("on side")
    git("commit", "-qam", "two")
    git("checkout", "-q", "main")
    git("update-server-info")
    return place


@pytest.fixture
def url(repository: Path) -> Iterator[str]:
    """Serve the repository over plain files."""
    handler = functools.partial(_Quiet, directory=str(repository))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/.git"
    server.shutdown()
    server.server_close()
    thread.join()


def at(address: object) -> tuple[str, dict[str, str]]:
    return "address", {"value": str(address)}


async def test_places_of_this_machine(api: Api, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/kept").write_text("text")
    (tmp_path / "d/left").touch()
    assert await api(at(tmp_path / "d"), "directory", "entries") == ["kept", "left"]
    assert await api(at("d"), ("directory", {"exclude": ["left"]}), "entries") == ["kept"], "relative to the session's directory"
    assert await api(at(f"file://{tmp_path}/d/kept"), "file", "contents") == "text"
    assert await api(at("d/kept"), "value") == "d/kept"


async def test_parts_of_a_repository_elsewhere(api: Api, url: str) -> None:
    assert await api(at(f"{url}#side:sub"), "directory", ("file", {"path": "f"}), "contents") == "on side"
    assert await api(at(f"{url}#:sub/f"), "file", "contents") == "on main"
    assert await api(at(url), "gitRepository", "branches") == ["main", "side"]
    assert await api(at(f"{url}#side"), "gitRef", "ref") == "refs/heads/side"
    for address, kind, message in [
        (url, "file", "no file path specified within git repository"),
        (f"{url}#side", "gitRepository", "cannot contain ref"), (f"{url}#:sub", "gitRepository", "cannot contain subdir"),
        (f"{url}#side:sub", "gitRef", "git ref address cannot contain subdir"),
        (f"{url}#:sub/none", "directory", "no such file"), (f"{url}#:sub/f", "directory", "is a file, not a directory"),
    ]:  # fmt: skip
        with pytest.raises(Failed, match=message):
            await api(at(address), kind, "id")


async def test_a_repository_of_this_machine(api: Api, repository: Path) -> None:
    assert await api(at(repository), "gitRepository", "branches") == ["main", "side"]
    assert await api(at(f"{repository}#side"), "gitRef", "ref") == "refs/heads/side"
    assert await api(at(f"file://{repository}"), "gitRef", "commit")


async def test_secrets(api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(api.engine.environ, "A_SECRET", "value")
    monkeypatch.setenv("A_SECRET", "value")
    (tmp_path / "s").write_text("from a file")
    for address in ("A_SECRET", "env:A_SECRET", "env://A_SECRET", "env://A_SECRET?cacheKey=k"):
        assert await api(at(address), "secret", "plaintext") == "value"
    assert await api(at(f"file://{tmp_path}/s"), "secret", "plaintext") == "from a file"


async def test_services_and_sockets(api: Api, tmp_path: Path) -> None:
    assert await api(at("tcp://localhost:4321"), "service", "ports", "port") == [4321]
    assert await api(at("udp://localhost:53"), "service", "ports", "protocol") == ["UDP"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert await api(at(tmp_path / "s"), "socket", "id")
        assert await api(at(f"unix://{tmp_path}/s"), "socket", "id")
    for address, message in [("http://x:1", "Must be a valid tcp:// or udp://"), ("tcp://x", "missing port"), ("tcp://x:y", "x:y")]:
        with pytest.raises(Failed, match=message):
            await api(at(address), "service", "id")


async def test_images(api: Api, base_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(api.engine.environ, "POCKET_IMAGE_ARCHIVES", f"base:1={base_archive}")
    assert await api(at("base:1"), "container", ("file", {"path": "/etc/base-release"}), "contents") == "conformance 1\n"
    with pytest.raises(Failed, match="invalid reference format"):
        await api(at("Not An Image"), "container", "id")


async def test_no_address(api: Api) -> None:
    with pytest.raises(Failed, match="resource cannot have empty address"):
        await api(at(""), "value")
    with pytest.raises(Failed, match=r"not supported by pocket: Address.volume — use a Dagger engine"):
        await api(at("sshfs://x/y"), "volume", "id")
