"""Registries for tests: Debian's docker-registry as a real one, and a scripted server for answers that a real one gives only on bad days.

Both listen on loopback only. The scripted one is given a coroutine that answers each request; it speaks just enough HTTP/1.1 for that.
"""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# bcrypt of "secret", as htpasswd would write it
HTPASSWD = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"


@contextlib.contextmanager
def real_registry(directory: Path, *, htpasswd: str = "", tls: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Run docker-registry on a free loopback port and give `host:port`; skip the test when the program is not installed."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed (apt-get install docker-registry)")
    directory.mkdir(parents=True, exist_ok=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    auth = certificate = ""
    if htpasswd:
        (directory / "htpasswd").write_text(htpasswd)
        auth = f"auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}\n"
    if tls:
        certificate = f"  tls: {{certificate: {tls[0]}, key: {tls[1]}}}\n"
    (directory / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {directory}/data}}\n  delete: {{enabled: true}}\n"
        f"http:\n  addr: 127.0.0.1:{port}\n{certificate}{auth}"
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", directory / "config.yml"], stdout=log, stderr=log)
    try:
        await_port(port, process, directory / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server that was started listens on loopback."""
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    raise AssertionError(f"docker-registry did not start: {log.read_text()}")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as the scripted registry saw it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; with `cut` the connection breaks after that many bytes of the body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None


@dataclass(slots=True)
class Scripted:
    """A running scripted registry."""

    host: str
    asked: list[Asked] = field(default_factory=list)

    def seen(self, header: str = "authorization") -> list[str]:
        """Return one header of all requests."""
        return [a.headers.get(header, "") for a in self.asked]


Script = Callable[[Asked], Reply | Awaitable[Reply]]


@contextlib.asynccontextmanager
async def scripted_registry(script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Scripted]:
    """Serve what `script` answers; requests for `/v2/` itself are answered with 200 and not recorded."""
    running = Scripted("")

    connections: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while asked := await _read(reader):
                if asked.target == "/v2/" and "authorization" not in asked.headers:
                    reply = Reply()
                else:
                    running.asked.append(asked)
                    answer = script(asked)
                    reply = answer if isinstance(answer, Reply) else await answer
                writer.write(_head(reply))
                if asked.method != "HEAD":
                    writer.write(reply.body[: reply.cut])
                await writer.drain()
                if reply.cut is not None:
                    writer.write_eof()
                    await reader.read()
                    break
        writer.transport.abort()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(connection(reader, writer))
        connections.add(task)

    server = await asyncio.start_server(accept, host, 0, ssl=tls)
    address = server.sockets[0].getsockname()
    running.host = f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
    try:
        yield running
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections)
        await server.wait_closed()


def _head(reply: Reply) -> bytes:
    fields = {"Content-Length": str(len(reply.body)), **reply.headers}
    return f"HTTP/1.1 {reply.status} X\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in fields.items()).encode() + b"\r\n"


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    line = await reader.readline()
    if not line:
        return None
    method, target, _ = line.decode().split(" ")
    headers: dict[str, str] = {}
    while (row := (await reader.readline()).decode().strip()) and ":" in row:
        name, _, value = row.partition(":")
        headers[name.lower()] = value.strip()
    body = b""
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return Asked(method, target, headers, body)


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for loopback that is its own authority; return certificate and key."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(["openssl", "req", "-x509", *kind, "-keyout", key, "-out", certificate, *names], check=True, capture_output=True)
    return certificate, key
