"""What a registry's refusal means, in a sentence, and what to do about it."""

import errno
import json
import os
import socket
import ssl
from collections.abc import Iterator

import httpx

from pocket.errors import PocketError


class RegistryError(PocketError):
    """A registry that cannot be reached or refuses; `status` is its answer, 0 when there was none."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def refused(response: httpx.Response, registry: str, what: str, *, user: str = "") -> RegistryError:
    """Return the error for an answer that is none; `what` says what was tried, e.g. `pull docker.io/library/x:1`."""
    status = response.status_code
    who = f"the account {user!r}" if user else "an anonymous client"
    sentence, hint = {
        401: (
            f"{registry} does not accept the login of {user!r}" if user else f"{registry} wants a login",
            f"log in (docker login {registry}), or give registry credentials",
        ),
        403: (f"{registry} does not allow it to {who}", "ask the owner of the repository for the permission, or use another account"),
        404: ("not found", "check the spelling of name and tag; a private repository may answer this way without a login"),
        405: (f"{registry} does not support this", "use a registry that does, or allow it in its configuration"),
        413: (f"{registry} does not take anything this large", "raise the limit of the registry or of the proxy before it"),
        429: (f"{registry} limits the number of requests", "wait a while, or log in: accounts have higher limits"),
    }.get(status, (f"{registry} answered {status} {response.reason_phrase}".rstrip(), "check the reference and the registry's log"))
    if status >= 500:
        hint = "the registry has a problem of its own: try again later, and tell its operator when it stays so"
    detail = _detail(response)
    return RegistryError(f"cannot {what}: {sentence}{f' ({detail})' if detail else ''}", hint=hint, status=status)


def unreachable(error: Exception, registry: str, what: str) -> RegistryError:
    """Return the error for a connection that failed."""
    reason, hint = _reason(error)
    return RegistryError(f"cannot {what}: cannot reach {registry}: {reason}", hint=hint)


def hopeless(error: Exception) -> bool:
    """Say whether trying again cannot help."""
    return any(isinstance(e, ssl.SSLCertVerificationError) for e in _causes(error))


def _reason(error: Exception) -> tuple[str, str]:
    causes = list(_causes(error))
    for e in causes:
        if isinstance(e, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({e.verify_message})", "name the CA's file in SSL_CERT_FILE"
        if isinstance(e, ssl.SSLError):
            return f"TLS failed ({e.reason})", "check that the registry speaks https; plain http is used only where it is asked for"
        if isinstance(e, socket.gaierror):
            return "no such host", "check the spelling, the network and the name servers"
    for e in causes:
        if isinstance(e, OSError) and e.errno:
            hint = "check the network and the proxy settings"
            if e.errno == errno.ECONNREFUSED:
                hint = "check host and port, and that the registry runs"
            return os.strerror(e.errno).lower(), hint
    if isinstance(error, httpx.TimeoutException):
        return "timed out", "check the network and the proxy settings; the registry may be overloaded"
    return str(error) or type(error).__name__, "check the network and the proxy settings"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk causes, contexts and groups: anyio tries several addresses and gathers what went wrong."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        e = todo.pop(0)
        if e is None or id(e) in seen:
            continue
        seen.add(id(e))
        yield e
        todo += [e.__cause__, e.__context__]
        if isinstance(e, BaseExceptionGroup):
            todo += e.exceptions


def _detail(response: httpx.Response) -> str:
    """Return the registry's own words, made safe for one line."""
    try:
        errors = json.loads(response.content)["errors"]
        words = "; ".join(str(e.get("message") or e.get("code")) for e in errors)
    except (ValueError, KeyError, TypeError, AttributeError, httpx.ResponseNotRead):
        return ""
    return "".join(c if c.isprintable() else " " for c in words)[:300]
