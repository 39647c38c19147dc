"""A registry on loopback that refuses: a repository called `s403` is answered with status 403, others with manifests that are none."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EMPTY = json.dumps({"schemaVersion": 2, "manifests": [], "mediaType": "application/vnd.oci.image.index.v1+json"}).encode()
ODD = {"notjson": b"<html>", "wrongdigest": EMPTY, "empty": EMPTY, "old": b'{"schemaVersion": 1}'}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self.path.split("/")[2]
        status, body = (200, b"") if not name else (int(name[1:]), b"") if name[1:].isdigit() else (200, ODD.get(name, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/vnd.oci.image.index.v1+json")
        if name == "wrongdigest":
            self.send_header("Docker-Content-Digest", "sha256:" + "0" * 64)
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
        """Say nothing."""


@contextlib.contextmanager
def refusing_registry() -> Iterator[str]:
    """Run it; give `host:port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
