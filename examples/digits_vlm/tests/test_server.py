from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from digits_vlm.server import create_app, main

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from digits_vlm.engine import Engine

LIMIT = 5000
COMPLETIONS = "/v1/chat/completions"


class Client:
    """Calls an app without a socket, from tests that are not async."""

    def __init__(self, engine: Engine) -> None:
        # raise_app_exceptions: a crash must come back as the answer a caller would see.
        self.transport = httpx.ASGITransport(create_app(engine, body_limit=LIMIT), raise_app_exceptions=False)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            async with httpx.AsyncClient(transport=self.transport, base_url="http://test") as client:
                return await client.request(method, path, **options)

        return asyncio.run(call())

    def chat(self, content: object = "two", **fields: Any) -> httpx.Response:
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}]} | fields
        return self.request("POST", COMPLETIONS, json=body)


@pytest.fixture
def client(engine: Engine) -> Client:
    return Client(engine)


def image_part(uri: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": uri}}


def test_a_text_question_gets_a_completion(client: Client, engine: Engine) -> None:
    response = client.chat("count from two to five", max_tokens=5)
    assert response.status_code == 200
    body = response.json()
    wanted = engine.answer("count from two to five", sampling=None).text.split()
    choice = body["choices"][0]
    assert body["object"] == "chat.completion"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].split() == wanted[: len(choice["message"]["content"].split())]
    assert choice["finish_reason"] in {"stop", "length"}
    assert body["usage"] == {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}


def test_an_image_is_read_and_changes_the_prompt(client: Client, data_uri: str) -> None:
    parts = [{"type": "text", "text": "what digit is this?"}, image_part(data_uri)]
    response = client.chat(parts)
    assert response.status_code == 200
    assert response.json()["usage"]["prompt_tokens"] == 1 + 16 + 7


def test_a_follow_up_question_sees_the_earlier_image(client: Client, data_uri: str) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "what digit is this?"}, image_part(data_uri)]},
        {"role": "assistant", "content": "seven"},
        {"role": "user", "content": "two"},
    ]
    assert client.chat(messages=messages).json()["usage"]["prompt_tokens"] == 1 + 16 + 3


def test_the_newer_limit_of_tokens_wins_and_seeds_repeat(client: Client) -> None:
    options = {"max_tokens": 9, "max_completion_tokens": 4, "temperature": 2, "seed": -3, "user": "somebody", "n": 1}
    first, second = (client.chat(**options).json() for _ in range(2))
    assert first["usage"]["completion_tokens"] <= 4
    assert first["choices"] == second["choices"]


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"model": "gpt"}, 404, "model", "model_not_found"),
        ({"stream": True}, 400, "stream", "unsupported_parameter"),
        ({"n": 2}, 400, "n", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "unsupported_parameter"),
        ({"temperature": -1}, 400, "temperature", "invalid_value"),
        ({"temperature": "hot"}, 400, "temperature", "invalid_value"),
        ({"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
        ({"messages": []}, 400, "messages", "invalid_value"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages.0.role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, 400, "messages.0.content", "invalid_value"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": "two " * 60}]}, 400, "messages", "context_length_exceeded"),
    ],
)
def test_a_bad_request_is_refused_in_openais_shape(
    client: Client, fields: dict[str, Any], status: int, param: str, code: str
) -> None:
    response = client.chat(**fields)
    error = response.json()["error"]
    assert response.status_code == status
    assert error["type"] == "invalid_request_error"
    assert (error["param"], error["code"]) == (param, code)
    assert error["message"]


@pytest.mark.parametrize(
    ("parts", "param", "code"),
    [
        ([image_part("https://example.org/7.png")], "messages", "invalid_image"),
        ([image_part("data:image/png;base64,AAAA")], "messages", "invalid_image"),
        ([image_part("data:image/png;base64,AA==")] * 2, "messages", "too_many_images"),
        ([{"type": "audio"}], "messages.0.content.0", "invalid_value"),
        ([{"type": "image_url", "image_url": "x"}], "messages.0.content.0.image_url.image_url", "invalid_value"),
    ],
)
def test_a_bad_image_is_refused_in_openais_shape(
    client: Client, parts: list[dict[str, Any]], param: str, code: str
) -> None:
    response = client.chat(parts)
    assert response.status_code == 400
    assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (param, code)


def test_a_body_that_is_no_json_is_refused(client: Client) -> None:
    response = client.request("POST", COMPLETIONS, content=b"{", headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


def test_a_large_body_is_refused_by_its_stated_length(client: Client) -> None:
    response = client.request("POST", COMPLETIONS, content=b"x" * (LIMIT + 1))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


def test_a_large_body_of_unknown_length_is_refused_when_it_gets_too_long(client: Client) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1000
            yield b"x" * 1000

    response = client.request("POST", COMPLETIONS, content=chunks())
    assert response.status_code == 413
    assert sent <= LIMIT + 2000


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", COMPLETIONS, 405)])
def test_an_unknown_route_is_refused_in_openais_shape(client: Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_crash_is_a_500_without_details_and_the_server_goes_on(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_args: object, **_options: object) -> None:
        message = "secret detail"
        raise RuntimeError(message)

    with monkeypatch.context() as patched:
        patched.setattr("digits_vlm.engine.Engine.answer", crash)
        response = client.chat()
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text
    assert "secret detail" in caplog.text
    assert client.chat().status_code == 200


def test_health_and_models_say_which_weights_are_served(client: Client, engine: Engine) -> None:
    health = client.request("GET", "/health").json()
    card = client.request("GET", "/v1/models").json()["data"][0]
    assert health["status"] == "ok"
    assert card["id"] == health["model"] == "tiny"
    assert card["weights"] == health["weights"] == engine.identity.weights_digest
    assert card["locked"] is health["locked"] is True
    assert client.request("GET", "/v1/models/tiny").json() == card
    assert client.request("GET", "/v1/models/other").status_code == 404


def test_metrics_count_requests_and_tokens(client: Client) -> None:
    client.chat(max_tokens=2)
    client.chat(model="other")
    text = client.request("GET", "/metrics").text
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["digits_vlm_requests_total", "200"] == 1
    assert samples["digits_vlm_requests_total", "404"] == 1
    assert samples["digits_vlm_tokens_total", "prompt"] == 4
    assert samples["digits_vlm_tokens_total", "completion"] == 2
    assert samples["digits_vlm_request_seconds_count",] == 2
    assert samples["digits_vlm_requests_running",] == 0


def test_many_requests_at_once_get_the_answers_they_would_get_alone(engine: Engine) -> None:
    questions = ["count from two to five", "is it even?", "describe the image", "what comes after six?"] * 5

    async def ask_all() -> list[str]:
        transport = httpx.ASGITransport(create_app(engine, threads=3))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            bodies = [{"model": "tiny", "messages": [{"role": "user", "content": question}]} for question in questions]
            responses = await asyncio.gather(*(client.post(COMPLETIONS, json=body) for body in bodies))
        return [response.json()["choices"][0]["message"]["content"] for response in responses]

    assert asyncio.run(ask_all()) == [engine.answer(question).text for question in questions]


@pytest.fixture
def process(model_dir: Path) -> Iterator[subprocess.Popen[str]]:
    source = Path(__file__).resolve().parents[1] / "src"
    with subprocess.Popen(
        [sys.executable, "-m", "digits_vlm.server", "--port", "0", "--model-dir", str(model_dir)],
        env=os.environ | {"PYTHONPATH": str(source)},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        yield server
        server.kill()


def test_the_command_serves_on_loopback_and_leaves_on_sigterm(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    address = None
    for line in process.stderr:
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
            address = found[1]
            break
    assert address is not None
    body = {"model": "tiny", "messages": [{"role": "user", "content": "two"}]}
    with httpx.Client(base_url=address, trust_env=False) as client:
        assert client.get("/health").json()["status"] == "ok"
        assert client.post(COMPLETIONS, json=body).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) in {0, -signal.SIGTERM}


def test_a_model_that_cannot_be_loaded_is_exit_2_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["--model-dir", str(tmp_path)]) == 2
    assert "config.json not found" in caplog.text
