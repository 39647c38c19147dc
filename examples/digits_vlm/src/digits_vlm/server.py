"""The HTTP server: an OpenAI-compatible API in front of one model.

`python -m digits_vlm.server --host 127.0.0.1 --port 8000`. It loads the model before it listens, opens no outgoing
connection, and answers chat completions on a few worker threads; more requests than that wait their turn. There is
no authentication and no TLS: put it behind something that has both.
"""

from __future__ import annotations

import argparse
import logging
import time
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import uvicorn
from fastapi import FastAPI, Response

from digits_vlm import __version__, errors
from digits_vlm.config import ConfigError, default_model_dir
from digits_vlm.engine import Answer, Engine, Sampling
from digits_vlm.errors import APIError
from digits_vlm.limits import BodyLimit
from digits_vlm.metrics import Metrics
from digits_vlm.model import ContextLengthError
from digits_vlm.preprocess import ImageError, decode_data_uri, read_pixels
from digits_vlm.schemas import ChatRequest  # noqa: TC001  FastAPI reads the annotation when the route is made

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)
DEFAULT_BODY_LIMIT = 1 << 20
DEFAULT_THREADS = 4


class Service:
    """A loaded model with its metrics and its queue; the routes only translate to and from HTTP."""

    def __init__(self, engine: Engine, *, threads: int = DEFAULT_THREADS) -> None:
        self.engine = engine
        self.created = int(time.time())
        self.metrics = Metrics(
            model=engine.config.name, weights_digest=engine.identity.weights_digest, version=__version__
        )
        self._workers = anyio.CapacityLimiter(threads)

    async def complete(self, request: ChatRequest) -> dict[str, Any]:
        """Answer a chat request and count it; raise `APIError` when it is refused."""
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        started = time.perf_counter()
        try:
            with self.metrics.running.track_inprogress():
                answer = await anyio.to_thread.run_sync(self._answer, request, limiter=self._workers)
            status = HTTPStatus.OK
        except APIError as error:
            status = HTTPStatus(error.status)
            raise
        finally:
            self.metrics.requests.labels(int(status)).inc()
            self.metrics.seconds.observe(time.perf_counter() - started)
        self.metrics.tokens.labels("prompt").inc(answer.prompt_tokens)
        self.metrics.tokens.labels("completion").inc(answer.completion_tokens)
        return _completion(answer, self.engine.config.name)

    def _answer(self, request: ChatRequest) -> Answer:
        config = self.engine.config
        if request.model != config.name:
            message = f"the model {request.model!r} does not exist; this server has {config.name!r}"
            raise APIError(message, status=HTTPStatus.NOT_FOUND, param="model", code="model_not_found")
        request.refuse_unsupported()
        question, uri = request.question()
        sampling = Sampling(
            max_tokens=request.max_completion_tokens or request.max_tokens or config.max_tokens,
            temperature=config.temperature if request.temperature is None else request.temperature,
            seed=None if request.seed is None else abs(request.seed),
        )
        try:
            pixels = None if uri is None else read_pixels(decode_data_uri(uri), image_size=config.image_size)
            return self.engine.answer(question, pixels=pixels, sampling=sampling)
        except ImageError as error:
            raise APIError(str(error), param="messages", code="invalid_image") from error
        except ContextLengthError as error:
            raise APIError(str(error), param="messages", code="context_length_exceeded") from error

    def model_card(self) -> dict[str, Any]:
        """Return the entry of `/v1/models`."""
        identity = self.engine.identity
        return {
            "id": self.engine.config.name,
            "object": "model",
            "created": self.created,
            "owned_by": "digits-vlm",
            "weights": identity.weights_digest,
            "locked": identity.locked,
            "max_model_len": self.engine.config.max_positions,
        }

    def health(self) -> dict[str, Any]:
        """Return the answer of `/health`."""
        identity = self.engine.identity
        return {
            "status": "ok",
            "model": self.engine.config.name,
            "version": __version__,
            "weights": identity.weights_digest,
            "locked": identity.locked,
        }


def create_app(engine: Engine, *, threads: int = DEFAULT_THREADS, body_limit: int = DEFAULT_BODY_LIMIT) -> FastAPI:
    """Return the ASGI app that serves `engine`; `body_limit` is in bytes."""
    service = Service(engine, threads=threads)
    app = FastAPI(title="digits-vlm", version=__version__, docs_url=None, redoc_url=None)
    errors.install(app)
    app.add_middleware(BodyLimit, limit=body_limit)

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> dict[str, Any]:
        return await service.complete(request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [service.model_card()]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        if name != engine.config.name:
            message = f"the model {name!r} does not exist"
            raise APIError(message, status=HTTPStatus.NOT_FOUND, param="model", code="model_not_found")
        return service.model_card()

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return service.health()

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.render(), media_type=service.metrics.content_type)

    return app


def _completion(answer: Answer, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text},
                "finish_reason": answer.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        },
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m digits_vlm.server", description="Serve the digits model.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one")
    parser.add_argument("--model-dir", type=Path, default=default_model_dir(), help="directory with config.json")
    parser.add_argument("--threads", type=int, default=DEFAULT_THREADS, help="answers computed at a time")
    parser.add_argument("--body-limit", type=int, default=DEFAULT_BODY_LIMIT, help="largest request body, bytes")
    parser.add_argument("--access-log", action="store_true", help="log every request")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return 2 when the model cannot be loaded."""
    options = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        engine = Engine.load(options.model_dir)
    except ConfigError as error:
        _log.error("%s", error)
        return 2
    _log.info("loaded %s, weights %s", engine.config.name, engine.identity.weights_digest)
    for name in engine.identity.differing:
        _log.warning("%s is not the file that model.lock names", name)
    app = create_app(engine, threads=options.threads, body_limit=options.body_limit)
    uvicorn.run(app, host=options.host, port=options.port, access_log=options.access_log, server_header=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
