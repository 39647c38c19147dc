"""Imports the Dagger SDK without what costs most and gives this pipeline nothing, so that a run whose steps are all cached is quick.

The SDK wraps every method of its client in run-time type checks while it is imported, which is half of the import; stages are checked by
mypy instead. It makes a new converter for each field of a query, though only reading a list of objects needs one of its own. And it reads
the certificates of all authorities for a client that speaks plain HTTP to this machine: here that client trusts nobody. These are private
parts of the SDK: pyproject.toml pins its version, a test notices when they are no longer there, and without them everything works, only
slower.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_LOCK = threading.Lock()
_SCALARS = (str, int, float, bool)


def load() -> Any:
    """Import the SDK and return it; called from any thread, before anything else imports it."""
    with _LOCK:
        if "dagger" in sys.modules:
            return sys.modules["dagger"]
        beartype: Any = import_module("beartype")
        checking = beartype.beartype
        beartype.beartype = _unchecked
        try:
            load_httpx()
            sdk = import_module("dagger")
        finally:
            beartype.beartype = checking
        _lighten()
        return sdk


def begin_loading() -> None:
    """Import the SDK in a thread of its own; what goes wrong there, `load` says when it is called."""

    def quietly() -> None:
        with suppress(Exception):
            load()

    threading.Thread(target=quietly, name="sdk", daemon=True).start()


def _lighten() -> None:
    """Take from the SDK's client what a session on this machine does not need."""
    from ssl import PROTOCOL_TLS_CLIENT, SSLContext

    session: Any = import_module("dagger.client._session")
    if hasattr(session, "TelemetryTransport"):
        session.TelemetryTransport = partial(session.TelemetryTransport, verify=SSLContext(PROTOCOL_TLS_CLIENT))
    core: Any = import_module("dagger.client._core")
    if hasattr(core, "make_converter"):
        core.make_converter = _sharing(core.make_converter)


def load_httpx() -> None:
    """Import httpx without its command line, which takes rich, click and Pygments with it where they are installed."""
    modules = cast("dict[str, Any]", sys.modules)
    if "httpx" in modules:
        return
    modules["httpx._main"] = None  # httpx does without it, as where click is missing
    try:
        import_module("httpx")
    finally:
        del modules["httpx._main"]


def _unchecked(*_arguments: Any, **_options: Any) -> Callable[[Any], Any]:
    return lambda checked: checked


class _Converter:
    """Does what the SDK's converter for one query does; that one is made when it is needed."""

    def __init__(self, context: Any, make: Callable[[Any], Any], shared: Callable[[], Any]) -> None:
        self._context, self._make, self._shared = context, make, shared

    def unstructure(self, value: Any) -> Any:
        """Turn arguments into JSON values."""
        return self._shared().unstructure(value)

    def structure(self, value: Any, kind: Any) -> Any:
        """Turn an answer into a value; objects in a list hold the context of their query."""
        if kind in _SCALARS:
            return self._shared().structure(value, kind)
        return self._make(self._context).structure(value, kind)


def _sharing(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @cache
    def shared() -> Any:
        return make(None)

    return lambda context: _Converter(context, make, shared)
