"""A session of pocket as a real process, asked in plain GraphQL: for tests that kill it, starve it, or look at what it leaves."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "base:1"
#: How a query begins that runs commands in the small image.
BASE = f'container{{from(address:"{IMAGE}")'


@dataclass(slots=True)
class PocketSession:
    """One running session. `query` gives an answer as it came; `ok` and `error` insist on which one it is."""

    process: subprocess.Popen[bytes]
    port: int
    token: str
    log: Path
    _connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Send a body to /query; give status and answer."""
        login = base64.b64encode(f"{self.token}:".encode()).decode()
        connection = self._connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        self._connection = None
        connection.request("POST", "/query", body, {"Authorization": f"Basic {login}", "Content-Type": "application/json"})
        answer = connection.getresponse()
        given = answer.status, answer.read()
        if answer.will_close:
            connection.close()
        else:
            self._connection = connection
        return given

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """Ask; give the answer, whether data or errors."""
        status, body = self.post(json.dumps({"query": text, "variables": variables}).encode())
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def ok(self, text: str, *path: str | int, **variables: Any) -> Any:
        """Ask and give what lies at `path` of the data; an error is a failure of the test."""
        answer = self.query(text, **variables)
        assert "errors" not in answer, f"{answer['errors']}\n{self.said()}"
        found: Any = answer["data"]
        for step in path:
            found = found[step]
        return found

    def error(self, text: str, **variables: Any) -> dict[str, Any]:
        """Ask and give the first error; anything else is a failure of the test."""
        answer = self.query(text, **variables)
        assert answer.get("errors"), answer
        first: dict[str, Any] = answer["errors"][0]
        return first

    def said(self) -> str:
        """Give what the session wrote to its standard error so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """End it without a warning."""
        self.process.kill()
        self._finish()

    def end(self) -> int:
        """End it in order; give the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self._finish()

    def _finish(self) -> int:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        code = self.process.wait(120)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        return code


def start(cache: Path, log: Path, *, image: Path | None = None, env: Mapping[str, str] | None = None,
          prefix: tuple[str, ...] = (), cwd: Path | None = None) -> PocketSession:  # fmt: skip
    """Start a session on a cache directory; its one line has been read. `prefix` is a program that starts it elsewhere."""
    settings = {"POCKET_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    if image is not None:
        settings["POCKET_IMAGE_ARCHIVES"] = f"{IMAGE}={image}"
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "pocket", "session"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            env={**os.environ, **settings, **(env or {})}, cwd=cwd or log.parent,
        )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        with process:
            pass
        raise AssertionError(f"no session ({process.returncode}): {log.read_text()}")
    given = json.loads(line)
    return PocketSession(process, given["port"], given["session_token"], log)


@contextlib.contextmanager
def session(cache: Path, log: Path, **options: Any) -> Iterator[PocketSession]:
    """Hold a session for a block; it must end in order and without a traceback. The options are those of `start`."""
    running = start(cache, log, **options)
    try:
        yield running
    except BaseException:
        running.kill()
        raise
    assert running.end() == 0, running.said()
    assert "Traceback" not in running.said(), running.said()


def text(value: str) -> str:
    """Write a string as GraphQL does."""
    return json.dumps(value)


def sh(script: str) -> str:
    """Give the field that runs a shell script."""
    return f'withExec(args:["sh","-c",{text(script)}])'


def chain(*fields: str) -> str:
    """Give a query of fields, each of what the one before gives; each may itself hold selections, but no brace in a string."""
    text = "{" + "{".join(fields)
    return text + "}" * (text.count("{") - text.count("}"))
