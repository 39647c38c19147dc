"""The client against a real HTTP server on loopback: what is asked, what is scored, and what is nobody's wrong answer."""

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ci.evalclient import PROGRAM, client

Reply = Callable[["Handler", dict[str, Any]], None]
PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d49484452")


class Server(http.server.ThreadingHTTPServer):
    """Answers chat completions as the test says, and remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.asked: list[dict[str, Any]] = []
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send(200, {"status": "ok"})
        else:
            self.send(200, {"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.seen[prompt_of(body)] += 1
        self.server.reply(self, body)

    def send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, text: str, finish: str = "stop") -> None:
        self.send(200, {"choices": [{"message": {"content": text}, "finish_reason": finish}]})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def prompt_of(body: dict[str, Any]) -> str:
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[0]["text"]


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], Server]]:
    servers: list[Server] = []

    def start(reply: Reply) -> Server:
        server = Server(reply)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def job(place: Path, port: int, samples: list[dict[str, Any]], **more: Any) -> Path:
    (place / "suite.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    content = {
        "base_url": f"http://127.0.0.1:{port}",
        "health": "/health",
        "directory": str(place),
        "suites": [{"name": "suite", "file": "suite.jsonl", "limit": 500}],
        "start_timeout": 5,
        "request_timeout": 5,
        "concurrency": 4,
        "max_tokens": 8,
        "seed": 11,
        **more,
    }
    (place / "job.json").write_text(json.dumps(content))
    return place / "job.json"


def run(place: Path, path: Path) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    code = client.main(str(path), str(place / "out"))
    rows = [json.loads(line) for line in (place / "out" / "samples.jsonl").read_text().splitlines()]
    return code, rows, json.loads((place / "out" / "summary.json").read_text())


def sample(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"s-{number}", "prompt": f"question {number}", "expected": "Seven", **more}


def test_asks_each_sample_once_and_keeps_the_order_of_the_file(serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    server = serve(lambda handler, _: handler.answer(" seven. "))
    code, rows, summary = run(tmp_path, job(tmp_path, server.server_port, [sample(n, cluster=f"c{n % 3}") for n in range(40)]))
    assert code == 0
    assert [row["id"] for row in rows] == [f"s-{n}" for n in range(40)]
    assert {row["score"] for row in rows} == {1.0}
    assert rows[4]["cluster"] == "c1"
    assert all(row["latency_s"] > 0 and row["error_class"] == "" and row["attempts"] == 1 for row in rows)
    assert set(server.seen.values()) == {1}
    assert summary["planned"] == {"suite": 40}
    assert summary["model"] == "tiny"


def test_requests_are_deterministic(serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    server = serve(lambda handler, _: handler.answer("seven"))
    run(tmp_path, job(tmp_path, server.server_port, [sample(1)]))
    assert server.asked == [
        {"max_tokens": 8, "messages": [{"content": "question 1", "role": "user"}], "model": "tiny", "seed": 11, "temperature": 0}
    ]


def test_images_are_sent_as_data_uris(serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(PIXEL)
    server = serve(lambda handler, _: handler.answer("seven"))
    run(tmp_path, job(tmp_path, server.server_port, [sample(1, image="images/one.png")]))
    text, image = server.asked[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "question 1"}
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBORw0KGgo")


def test_wrong_refused_and_malformed_answers_are_the_models_own(serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    replies: dict[str, Reply] = {
        "question 0": lambda handler, _: handler.answer("eight"),
        "question 1": lambda handler, _: handler.send(400, {"error": "no"}),
        "question 2": lambda handler, _: handler.send(200, {"unexpected": 1}),
        "question 3": lambda handler, _: handler.answer("seven and", "length"),
    }
    server = serve(lambda handler, body: replies[prompt_of(body)](handler, body))
    code, rows, _ = run(tmp_path, job(tmp_path, server.server_port, [sample(n) for n in range(4)]))
    assert code == 0
    assert [row["score"] for row in rows] == [0.0] * 4
    assert [row["error_class"] for row in rows] == [""] * 4
    assert [row["finish_reason"] for row in rows] == ["stop", "refused", "malformed", "length"]


def test_server_errors_are_a_class_of_their_own_and_tried_once_more(serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if prompt_of(body) == "question 1" or (prompt_of(body) == "question 2" and handler.server.seen["question 2"] == 1):
            handler.send(503, {})
        else:
            handler.answer("seven")

    server = serve(reply)
    code, rows, _ = run(tmp_path, job(tmp_path, server.server_port, [sample(n) for n in range(4)]))
    assert code == 0
    assert [(row["error_class"], row["attempts"], row["score"]) for row in rows] == [
        ("", 1, 1.0),
        ("http_503", 2, 0.0),
        ("", 2, 1.0),
        ("", 1, 1.0),
    ]


def test_an_answer_that_never_comes_is_a_timeout(serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    asked_enough = threading.Event()

    def reply(handler: Handler, _: dict[str, Any]) -> None:
        asked_enough.wait(10)
        handler.close_connection = True

    server = serve(reply)
    code, rows, _ = run(tmp_path, job(tmp_path, server.server_port, [sample(1)], request_timeout=0.2))
    asked_enough.set()
    assert code == 0
    assert (rows[0]["error_class"], rows[0]["attempts"]) == ("timeout", 2)


def test_a_connection_that_the_server_closed_between_requests_is_replaced(serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    def reply(handler: Handler, _: dict[str, Any]) -> None:
        handler.answer("seven")
        handler.close_connection = True  # without saying so in a header

    server = serve(reply)
    code, rows, _ = run(tmp_path, job(tmp_path, server.server_port, [sample(n) for n in range(6)], concurrency=1))
    assert code == 0
    assert [(row["score"], row["attempts"]) for row in rows] == [(1.0, 1)] * 6


def test_a_server_that_dies_ends_the_evaluation_at_once(tmp_path: Path) -> None:
    """The rest is not sent, what was answered is kept, and the exit code is not one of a bad model."""
    server: Server

    def reply(handler: Handler, _: dict[str, Any]) -> None:
        if len(handler.server.asked) > 5:
            handler.server.socket.close()
            threading.Thread(target=handler.server.shutdown).start()
            handler.close_connection = True
        else:
            handler.answer("seven")

    server = Server(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    code, rows, summary = run(tmp_path, job(tmp_path, server.server_port, [sample(n) for n in range(50)], concurrency=1))
    thread.join()
    server.server_close()
    assert code == client.UNAVAILABLE
    assert summary["gone"].startswith("the server went away")
    assert len(rows) == 50
    assert [row["error_class"] for row in rows[:5]] == [""] * 5
    assert {row["error_class"] for row in rows[6:]} == {"not_sent"}


def test_a_server_that_never_answers_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code, rows, summary = run(tmp_path, job(tmp_path, port, [sample(1)], start_timeout=0.2))
    assert code == client.UNAVAILABLE
    assert rows == []
    assert "/health did not answer 200 within 0.2 s" in summary["gone"]


@pytest.mark.parametrize("line", ["{", '"text"', '{"id": "a"}'])
def test_an_unreadable_suite_is_named(line: str, serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    server = serve(lambda handler, _: handler.answer("seven"))
    path = job(tmp_path, server.server_port, [])
    (tmp_path / "suite.jsonl").write_text(line + "\n")
    code, _, summary = run(tmp_path, path)
    assert code == client.BAD_JOB
    assert summary["gone"].startswith("unreadable job or suite")


def test_limit_epochs_and_several_right_answers(serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    server = serve(lambda handler, _: handler.answer("7"))
    suites = [{"name": "suite", "file": "suite.jsonl", "limit": 2}]
    path = job(tmp_path, server.server_port, [sample(n, expected=["seven", "7"]) for n in range(5)], suites=suites, epochs=3)
    code, rows, summary = run(tmp_path, path)
    assert code == 0
    assert [(row["id"], row["epoch"], row["score"]) for row in rows] == [(f"s-{n}", e, 1.0) for e in (1, 2, 3) for n in (0, 1)]
    assert sorted({body["seed"] for body in server.asked}) == [11, 12, 13]
    assert summary["planned"] == {"suite": 6}


def test_runs_as_a_program_without_any_package(serve: Callable[[Reply], Server], tmp_path: Path) -> None:
    server = serve(lambda handler, _: handler.answer("seven"))
    path = job(tmp_path, server.server_port, [sample(1)])
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(PROGRAM), str(path), str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("suite 1/1 · ")


def test_program_uses_no_syntax_newer_than_python_3_8() -> None:
    import ast

    ast.parse(PROGRAM.read_text(), feature_version=(3, 8))
