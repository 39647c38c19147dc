"""A web server on loopback that gives nothing to strangers: a registry without images, a file, and a git repository.

It keeps every Authorization header, so that a test can see that a secret was really used.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(slots=True)
class GuardedHost:
    """The running server: its address, and what clients showed it."""

    address: str
    shown: list[str] = field(default_factory=list)


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: object, shown: list[str], **kwargs: object) -> None:
        self.shown = shown
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization")
        if not authorization:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.shown.append(authorization)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
        """Say nothing."""


@contextlib.contextmanager
def guarded_host(folder: Path) -> Iterator[GuardedHost]:
    """Serve `folder`, which gets a file `file` and a git repository `repo.git`."""
    (folder / "file").write_text("from the web\n")
    _repository(folder)
    host = GuardedHost("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder), shown=host.shown))
    host.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _repository(folder: Path) -> None:
    work = folder / "work"
    work.mkdir()
    (work / "readme").write_text("from git\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(work)]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(folder / "repo.git")], check=True)
    subprocess.run(["git", "-C", str(folder / "repo.git"), "update-server-info"], check=True)
