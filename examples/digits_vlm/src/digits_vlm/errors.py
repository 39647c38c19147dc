"""Errors as the OpenAI API shapes them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

_log = logging.getLogger(__name__)


class APIError(Exception):
    """A refused request: HTTP status, a message for the caller, the field at fault and a machine-readable code."""

    def __init__(
        self, message: str, *, status: int = HTTPStatus.BAD_REQUEST, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = int(status)
        self.param = param
        self.code = code


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the JSON body of an error."""
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def install(app: FastAPI) -> None:
    """Make `app` answer every error in OpenAI's shape."""

    @app.exception_handler(APIError)
    async def refused(_request: Request, error: APIError) -> JSONResponse:
        return _response(error.status, str(error), param=error.param, code=error.code)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return _response(HTTPStatus.BAD_REQUEST, "the body is not valid JSON", code="invalid_json")
        # A location is "body", then the field's path; the part of a message's tag ("text") is left in it.
        param = ".".join(str(part) for part in first["loc"][1:])
        message = f"{param or 'body'}: {first['msg']}"
        return _response(HTTPStatus.BAD_REQUEST, message, param=param or None, code="invalid_value")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail}: {request.method} {request.url.path}"
        response = _response(error.status_code, message)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the server's log has the traceback")


def _response(status: int, message: str, *, param: str | None = None, code: str | None = None) -> JSONResponse:
    return JSONResponse(error_body(status, message, param=param, code=code), status_code=int(status))
