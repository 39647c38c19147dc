"""A registry with bad moments: what it refuses for a while is tried again where everybody sees it, what it refuses for good is not."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pipelines import CONFIG, Done, Pipeline, Seen, statuses

from ci import artefact
from ci.stage import Context
from ci.stages import STAGES
from ci.stages.kept import archive_path, incoming, keep


class Registry:
    """Takes everything, after it has answered with the given statuses."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.taken: list[str] = []

    def answer(self, method: str, path: str) -> int:
        """Give the status of a request."""
        if path != "/v2/" and self.statuses:
            return self.statuses.pop(0)
        if method == "PUT":
            self.taken.append(path)
            return 201
        return 404 if "/manifests/" in path else 200


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Registry, str]]:
    registry = Registry(*request.param)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(registry.answer(self.command, self.path))
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "0")
            self.end_headers()

        do_GET = do_HEAD = do_PUT = do_POST = _answer  # noqa: N815  the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the signature of http.server
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield registry, f"127.0.0.1:{server.server_port}/team/model"
    server.shutdown()
    server.server_close()
    thread.join()


def made(cache: Path, name: str) -> Any:
    """Make a stage's work that leaves an archive in the cache."""

    async def work(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        (ctx.subject / "config.json").write_text("{}")
        layer = {"path": "config.json", "name": "config.json", "kind": artefact.kind_of("config.json")}
        job = {"name": name, "revision": "a" * 40, "root": str(ctx.subject), "layers": [layer], "annotations": {}}
        with incoming(cache) as part:
            digest = artefact.pack(job, part)
            keep(cache, part, digest)
        assert archive_path(cache, digest).exists()
        return Done("made", digest)

    return work


def pushing(tmp_path: Path, target: str) -> Pipeline:
    pipeline = Pipeline.at(tmp_path)
    (pipeline.root / "configs" / "pipeline.yaml").write_text(f"{CONFIG}push: {{target: {target!r}}}\nrun: {{backoff: 0.001}}\n")
    pipeline.add("build", made(pipeline.cache, "image"))
    for name in ("test", "evaluate"):
        pipeline.add(name, made(pipeline.cache, name))
    pipeline.add("package", made(pipeline.cache, "model"))
    pipeline.stages["push"] = replace(STAGES["push"], needs=("build", "test", "evaluate", "package"))
    return pipeline


@pytest.mark.parametrize("served", [(503, 503)], indirect=True)
def test_a_registry_that_answers_503_twice_is_asked_again_and_the_record_says_so(tmp_path: Path, served: tuple[Registry, str]) -> None:
    registry, target = served
    seen = Seen()
    record = pushing(tmp_path, target).run(seen)
    assert (record.exit, record.stages["push"].status) == (0, "passed")
    attempts = json.loads((record.directory / "run.json").read_text())["stages"][-1]["attempts"]
    host = target.partition("/")[0]
    words = [f"{host} answered 503: request tried again ({number} of 5)" for number in (2, 3)]
    assert [attempt["message"] for attempt in attempts] == words
    assert [line for kind, line in seen.events if kind == "noted"] == [f"push: {line}" for line in words]
    assert sorted(path.rpartition("/")[2] for path in registry.taken) == ["latest", "latest-model"]


@pytest.mark.parametrize("served", [(503,) * 5], indirect=True)
def test_when_one_request_is_refused_too_often_the_stage_is_tried_again(tmp_path: Path, served: tuple[Registry, str]) -> None:
    registry, target = served
    seen = Seen()
    record = pushing(tmp_path, target).run(seen)
    assert (record.exit, len(registry.taken)) == (0, 2)
    said = [line for kind, line in seen.events if kind == "noted"]
    assert len(said) == 5
    assert said[-1].startswith("push: attempt 1 of 3 failed, again in ")
    assert "answered 503" in said[-1]


@pytest.mark.parametrize("served", [(403,) * 99], indirect=True)
def test_a_registry_that_does_not_allow_it_is_asked_once(tmp_path: Path, served: tuple[Registry, str]) -> None:
    _, target = served
    seen = Seen()
    record = pushing(tmp_path, target).run(seen)
    assert (record.exit, statuses(record)["push"]) == (5, "failed")
    assert [line for kind, line in seen.events if kind == "noted"] == []
    assert record.stages["push"].failure is not None
    assert "ask the owner" in record.stages["push"].failure.hint
