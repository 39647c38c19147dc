"""Directory descriptors below one root, so that no name of a stranger is ever resolved by the kernel as a path.

Each component is opened by itself with O_NOFOLLOW: a link in the way is an error, never a way out. openat2 with
RESOLVE_IN_ROOT would do the same, but links inside a layer must also be resolved against the layers below, which no kernel call
knows; so resolution is done on the index and the kernel only ever sees single names.
"""

import os
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Self

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = 96
_NEAR = 32


class Root:
    """The root of a tree that is being written, with its most recently used directories held open."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, _FLAGS)
        self._cache: OrderedDict[str, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.forget()
        os.close(self._fd)

    def dir(self, path: str) -> int:
        """Return a descriptor of a directory below the root; it stays open at least until two others were asked for."""
        if not path:
            return self._fd
        fd = self._cache.get(path)
        if fd is not None:
            self._cache.move_to_end(path)
            return fd
        start, at = path, self._fd
        while start := start.rpartition("/")[0]:
            if start in self._cache:
                at = self._cache[start]
                break
        return self._walk(at, start, path[len(start) + 1 if start else 0 :].split("/"))

    def forget(self) -> None:
        """Close every descriptor but the root's."""
        while self._cache:
            os.close(self._cache.popitem()[1])

    def drop(self, path: str) -> None:
        """Close the descriptor of one directory, which is about to be removed."""
        fd = self._cache.pop(path, None)
        if fd is not None:
            os.close(fd)

    def _walk(self, at: int, start: str, parts: list[str]) -> int:
        """Open component after component. The last ones stay open: who asked for them will ask for their parents next."""
        fd, held = at, True
        for left, part in zip(range(len(parts) - 1, -1, -1), parts, strict=True):
            try:
                below = os.open(part, _FLAGS, dir_fd=fd)
            finally:
                if not held:
                    os.close(fd)
            fd, held = below, left < _NEAR
            start = f"{start}/{part}" if start else part
            if held:
                self._cache[start] = fd
        while len(self._cache) > _OPEN:
            os.close(self._cache.popitem(last=False)[1])
        return fd
