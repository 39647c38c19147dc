"""Imports the Dagger SDK without what costs most and gives this pipeline nothing, so that a run whose steps are all cached is quick.

The SDK wraps every method of its client in run-time type checks while it is imported, which is half of the import; stages are checked by
mypy instead. And it makes a new converter for each field of a query, though only reading a list of objects needs one of its own. Both are
private parts of the SDK: pyproject.toml pins its version, a test notices when they are no longer there, and without them everything works,
only slower.
"""

from __future__ import annotations

import sys
import threading
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

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
            sdk = import_module("dagger")
        finally:
            beartype.beartype = checking
        core: Any = import_module("dagger.client._core")
        if hasattr(core, "make_converter"):
            core.make_converter = _sharing(core.make_converter)
        return sdk


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
