"""Sessions of pocket as processes, asked over HTTP, and queries written as chains of fields.

`Session` starts `pocket session` as an SDK would and answers with what came back; `value` builds the query of a chain and gives its
only leaf. The same chains can be asked of a query engine inside the test's own process.
"""

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
Step = str | tuple[str, dict[str, Any]]
Execute = Callable[[str], Awaitable[dict[str, Any]]]


class Enum(str):
    """A GraphQL enum value."""

    __slots__ = ()


class Failed(Exception):
    """The answer holds errors; the first one is kept."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["message"])
        self.extensions: dict[str, Any] = dict(error.get("extensions", {}))
        self.path: list[Any] = list(error.get("path", []))


def literal(value: Any) -> str:
    """Write a Python value as GraphQL."""
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value)


def query_of(*steps: Step) -> str:
    """Write a chain of fields as a query."""
    text = ""
    for step in reversed(steps):
        name, args = (step, {}) if isinstance(step, str) else step
        call = f"{name}({', '.join(f'{k}: {literal(v)}' for k, v in args.items())})" if args else name
        text = f"{call} {{ {text} }}" if text else call
    return f"{{ {text} }}"


def on(kind: str, ident: str) -> tuple[Step, Step]:
    """Give the steps that begin at an object with an ID."""
    return ("node", {"id": ident}), f"... on {kind}"


def leaf(answer: dict[str, Any], *steps: Step) -> Any:
    """Take the leaf out of an answer.

    Raises:
        Failed: there are errors.
    """
    if answer.get("errors"):
        raise Failed(answer["errors"][0])
    value: Any = answer["data"]
    for step in steps:
        name = step if isinstance(step, str) else step[0]
        if not name.startswith("..."):
            value = [v[name] for v in value] if isinstance(value, list) else value[name]
    return value


async def value(execute: Execute, *steps: Step) -> Any:
    """Ask for the leaf of a chain."""
    return leaf(await execute(query_of(*steps)), *steps)


class Session:
    """One session process; a context manager that ends it by closing its standard input."""

    def __init__(self, cache: Path, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pocket", "session", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            # The checkout need not be installed, and the session may begin in any directory.
            env={**os.environ, "PYTHONPATH": str(ROOT), "POCKET_CACHE": str(cache), **(env or {})},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.said: dict[str, Any] = json.loads(line) if line else {}

    @property
    def port(self) -> int:
        """Give the port on loopback."""
        return int(self.said["port"])

    def post(
        self, body: bytes, *, token: str | None = None, path: str = "/query", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request; give status, headers and body."""
        credentials = base64.b64encode(f"{self.said['session_token'] if token is None else token}:".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", path, body, {"Authorization": f"Basic {credentials}", **(headers or {})})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def execute(self, text: str) -> dict[str, Any]:
        """Ask a query; give the whole answer."""
        status, _, body = self.post(json.dumps({"query": text}).encode())
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def value(self, *steps: Step) -> Any:
        """Ask for the leaf of a chain."""
        return leaf(self.execute(query_of(*steps)), *steps)

    def base(self, archive: Path) -> tuple[Step, Step]:
        """Import an image archive; give the steps that begin at its container."""
        source = self.value("host", ("file", {"path": str(archive)}), "id")
        return on("Container", self.value("container", ("import", {"source": source}), "id"))

    def end(self, number: int | None = None) -> tuple[int, str]:
        """End the session by closing its input or by a signal; give its exit code and what it said on stderr."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            code, said = self.end()
            assert kind is not None or code == 0, said
        self.process.kill()


def kill(session: Session) -> None:
    """End a session as a crash would."""
    session.end(signal.SIGKILL)
