"""Sends evaluation suites to an OpenAI-compatible server and writes one scored line per sample.

Runs inside the client container: `python client.py job.json out/`. The job names the server, the suites and the limits; `out/` receives
`samples.jsonl` (suite order, then file order) and `summary.json`. Requests are deterministic: temperature 0, a fixed seed, a fixed longest
answer, keys sorted. What the server did wrong is a score; what the machine did wrong (refused or lost connections, timeouts, 5xx, 429)
is an `error_class`, tried once more at the end and never counted as a wrong answer here. When the server stops answering, the rest is not
sent.

Exit codes: 0 all samples were sent · 3 the job or a suite is unreadable · 75 the server never became healthy or went away.
"""

from __future__ import annotations

import base64
import http.client
import json
import mimetypes
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    Sample = dict[str, Any]

BAD_JOB = 3
UNAVAILABLE = 75
_HEALTH_ATTEMPTS = 3
_LONGEST_OUTPUT = 4000
_SPACES = re.compile(r"\s+")


class Gone(Exception):
    """The server does not answer any more, or never did."""


def normalise(text: str) -> str:
    """Fold case, white space and closing punctuation, which are not what a suite asks for."""
    return _SPACES.sub(" ", text).strip().strip(".!").strip().casefold()


def score(output: str, expected: Any) -> float:
    """Give 1.0 when the answer equals the expected one, or any of several, after normalisation; else 0.0."""
    wanted = expected if isinstance(expected, list) else [expected]
    return 1.0 if normalise(output) in [normalise(str(one)) for one in wanted] else 0.0


def read_suite(directory: str, suite: dict[str, Any]) -> list[Sample]:
    """Read the first `limit` samples of a suite; ValueError names the line that is not a sample."""
    path = Path(directory, suite["file"])
    samples: list[Sample] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if len(samples) >= suite["limit"]:
                break
            if not line.strip():
                continue
            sample = json.loads(line)
            if not isinstance(sample, dict) or not {"id", "prompt", "expected"} <= set(sample):
                raise ValueError(f"{suite['file']}:{number}: a sample has id, prompt and expected")
            samples.append(sample)
    return samples


def content(directory: str, suite_file: str, sample: Sample) -> Any:
    """Make the message's content: plain text, or text and the image as a data URI."""
    image = sample.get("image")
    if not image:
        return sample["prompt"]
    path = Path(directory, suite_file).parent / image
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    kind = mimetypes.guess_type(path.name)[0] or "image/png"
    return [{"type": "text", "text": sample["prompt"]}, {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{encoded}"}}]


class Server:
    """One HTTP connection per thread to the service, kept open between requests."""

    def __init__(self, base_url: str, health: str, timeout: float) -> None:
        parts = urlsplit(base_url)
        self._host = parts.hostname or "localhost"
        self._port = parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._health = health
        self._timeout = timeout
        self._local = threading.local()
        self._open: set[http.client.HTTPConnection] = set()

    def request(self, method: str, path: str, body: bytes | None = None, timeout: float | None = None) -> tuple[int, bytes]:
        """Send one request; a kept connection that the server has closed meanwhile is replaced once."""
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            try:
                return self._exchange(kept, method, path, body)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, http.client.CannotSendRequest):
                self._drop()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout or self._timeout)
        self._local.connection = connection
        self._open.add(connection)
        try:
            return self._exchange(connection, method, path, body)
        except BaseException:
            self._drop()
            raise

    def healthy(self, timeout: float = 5.0) -> str:
        """Ask for the health path on a connection of its own; "" when it answers 200, else what came instead."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        try:
            connection.request("GET", self._prefix + self._health)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        return "" if status == 200 else f"HTTP {status}"

    def _exchange(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, self._prefix + path, body=body, headers=headers)
        response = connection.getresponse()
        data = response.read()
        if response.will_close:
            self._drop()
        return response.status, data

    def _drop(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._open.discard(connection)
        self._local.connection = None

    def close(self) -> None:
        """Close the connections of all threads, which have ended."""
        while self._open:
            self._open.pop().close()


def answer(status: int, data: bytes) -> tuple[str, str, str]:
    """Read a reply: (output, finish reason, error class). 4xx and malformed replies are the service's own fault: an empty, wrong answer."""
    if status == 429 or status >= 500:
        return data.decode("utf-8", "replace")[:200], "", f"http_{status}"
    try:
        choice = json.loads(data)["choices"][0]
        text = choice["message"]["content"]
        return text if isinstance(text, str) else "", str(choice.get("finish_reason") or ""), ""
    except (ValueError, LookupError, TypeError):
        return data.decode("utf-8", "replace")[:200], "refused" if status >= 400 else "malformed", ""


def unanswered(suite: str, sample: Sample, epoch: int) -> Sample:
    """Make the line of a sample before anything is known of its answer."""
    return {
        "id": sample["id"],
        "suite": suite,
        "cluster": sample.get("cluster", sample["id"]),
        "epoch": epoch,
        "score": 0.0,
        "output": "",
        "expected": sample["expected"],
        "finish_reason": "",
        "latency_s": 0.0,
        "error_class": "",
        "attempts": 1,
    }


class Evaluation:
    """One pass over all suites with bounded concurrency."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.server = Server(job["base_url"], job["health"], job["request_timeout"])
        self.suites = {suite["name"]: read_suite(job["directory"], suite) for suite in job["suites"]}
        self.done: dict[str, int] = dict.fromkeys(self.suites, 0)
        self.gone = threading.Event()
        self.reason = ""
        self.model = ""
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._shown = 0.0

    def wait(self) -> None:
        """Wait until the health path answers 200, then ask for the model's name; Gone after the start timeout."""
        end = time.monotonic() + self.job["start_timeout"]
        pause = threading.Event()
        last = self.server.healthy()
        while last:
            if time.monotonic() > end:
                raise Gone(f"{self.job['health']} did not answer 200 within {self.job['start_timeout']:g} s: {last}")
            pause.wait(0.1)
            last = self.server.healthy()
        status, data = self.server.request("GET", "/v1/models")
        self.server.close()
        try:
            self.model = json.loads(data)["data"][0]["id"]
        except (ValueError, LookupError, TypeError):
            raise Gone(f"/v1/models names no model: HTTP {status}") from None

    def run(self) -> list[Sample]:
        """Send every sample, those that the machine failed once more; the order of the result is the order of the files."""
        self._started = time.monotonic()
        tasks = [
            (suite, sample, epoch)
            for suite in self.job["suites"]
            for epoch in range(1, self.job.get("epochs", 1) + 1)
            for sample in self.suites[suite["name"]]
        ]
        with ThreadPoolExecutor(self.job["concurrency"]) as pool:
            rows = list(pool.map(lambda task: self.ask(*task), tasks))
            again = [] if self.gone.is_set() else [index for index, row in enumerate(rows) if row["error_class"]]
            for index, row in zip(again, pool.map(lambda index: self.ask(*tasks[index]), again)):  # noqa: B905  Python 3.8 knows no strict
                rows[index] = {**row, "attempts": 2}
        self.server.close()
        self.show(last=True)
        return rows

    def ask(self, suite: dict[str, Any], sample: Sample, epoch: int) -> Sample:
        """Send one sample and score the answer."""
        row = unanswered(suite["name"], sample, epoch)
        if self.gone.is_set():
            return {**row, "error_class": "not_sent"}
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content(self.job["directory"], suite["file"], sample)}],
            "max_tokens": self.job["max_tokens"],
            "temperature": 0,
            "seed": self.job.get("seed", 0) + epoch - 1,
        }
        began = time.perf_counter()
        try:
            status, data = self.server.request("POST", "/v1/chat/completions", json.dumps(body, sort_keys=True).encode("utf-8"))
        except socket.timeout:
            row["error_class"] = "timeout"
        except (OSError, http.client.HTTPException) as error:
            row["error_class"] = "connection"
            row["output"] = f"{type(error).__name__}: {error}"
            self._check(row["output"])
        else:
            row["output"], row["finish_reason"], row["error_class"] = answer(status, data)
        row["latency_s"] = round(time.perf_counter() - began, 6)
        if not row["error_class"]:
            row["score"] = score(row["output"], sample["expected"])
        row["output"] = row["output"][:_LONGEST_OUTPUT]
        with self._lock:
            self.done[suite["name"]] += 1
        self.show()
        return row

    def _check(self, why: str) -> None:
        """After a lost connection: a server that does not answer its health path either is gone, and nobody waits for it."""
        pause = threading.Event()
        for _ in range(_HEALTH_ATTEMPTS):
            if not self.server.healthy(timeout=2.0):
                return
            pause.wait(0.2)
        with self._lock:
            self.reason = self.reason or why
        self.gone.set()

    def show(self, *, last: bool = False) -> None:
        """Print one progress line at most once a second."""
        now = time.monotonic()
        with self._lock:
            if not last and now - self._shown < 1.0:
                return
            self._shown = now
            planned = {name: len(samples) * self.job.get("epochs", 1) for name, samples in self.suites.items()}
            parts = [f"{name} {min(count, planned[name])}/{planned[name]}" for name, count in self.done.items()]
            rate = sum(self.done.values()) / max(now - self._started, 1e-6)
            print(" · ".join([*parts, f"{rate:.0f} samples/s"]), flush=True)


def main(job_path: str, out: str) -> int:
    """Run the job; always leaves summary.json, and samples.jsonl once anything was sent."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    summary: dict[str, Any] = {"gone": "", "model": "", "planned": {}, "asked": 0, "seconds": 0.0}
    rows: list[Sample] = []
    code = 0
    began = time.monotonic()
    try:
        evaluation = Evaluation(job)
        summary["planned"] = {name: len(samples) * job.get("epochs", 1) for name, samples in evaluation.suites.items()}
        evaluation.wait()
        rows = evaluation.run()
        summary["model"] = evaluation.model
        summary["asked"] = len(rows)
        if evaluation.gone.is_set():
            raise Gone("the server went away: " + evaluation.reason)
    except Gone as error:
        summary["gone"] = str(error)
        print(error, file=sys.stderr)
        code = UNAVAILABLE
    except (OSError, ValueError, KeyError) as error:
        summary["gone"] = f"unreadable job or suite: {error}"
        print(summary["gone"], file=sys.stderr)
        code = BAD_JOB
    summary["seconds"] = round(time.monotonic() - began, 3)
    Path(out).mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows]
    Path(out, "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    Path(out, "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True, ensure_ascii=False), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
