"""The user's terminal joined to one of a container: keys one way, output the other, the window's size and the end of either.

The user's terminal is raw meanwhile, so that every key is the container's to understand; it is given back as it was, whatever
happens. Blocking writes to the user's terminal are meant: who stops it with Ctrl-S wants the command to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import termios
import tty
from collections.abc import Iterator
from typing import Self

_CHUNK = 64 * 1024


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """Have a terminal pass every key on as it is, and put its settings back at the end."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def resize(inner: int, outer: int) -> None:
    """Give one terminal the size of another."""
    with contextlib.suppress(OSError):  # either may be going
        fcntl.ioctl(inner, termios.TIOCSWINSZ, fcntl.ioctl(outer, termios.TIOCGWINSZ, bytes(8)))


class Joined:
    """The container's terminal `inner` joined to the user's, which is read at `keys` and written at `screen`."""

    def __init__(self, inner: int, keys: int, screen: int) -> None:
        self._inner, self._keys, self._screen = inner, keys, screen
        self._loop = asyncio.get_running_loop()
        self._held = b""  # keys that the container has not taken yet
        self._shown: asyncio.Future[None] = self._loop.create_future()

    async def __aenter__(self) -> Self:
        os.set_blocking(self._inner, False)
        resize(self._inner, self._keys)
        self._loop.add_signal_handler(signal.SIGWINCH, resize, self._inner, self._keys)
        self._loop.add_reader(self._inner, self._output)
        self._loop.add_reader(self._keys, self._typed)
        return self

    async def __aexit__(self, *_: object) -> None:
        for fd in (self._inner, self._keys):
            self._loop.remove_reader(fd)
        self._loop.remove_writer(self._inner)
        self._loop.remove_signal_handler(signal.SIGWINCH)
        os.close(self._inner)

    async def ended(self) -> None:
        """Wait until the container's side is closed and all that it wrote is shown."""
        await self._shown

    def _output(self) -> None:
        try:
            data = os.read(self._inner, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the other side open any more
            data = b""
        if data:
            _write(self._screen, data)
        elif not self._shown.done():
            self._loop.remove_reader(self._inner)
            self._shown.set_result(None)

    def _typed(self) -> None:
        try:
            data = os.read(self._keys, _CHUNK)
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._keys)
            return
        self._held = data
        self._pass_on()

    def _pass_on(self) -> None:
        """Hand keys to the container; while it takes none, no more are read."""
        try:
            self._held = self._held[os.write(self._inner, self._held) :]
        except BlockingIOError:
            pass
        except OSError:
            self._held = b""
        if self._held:
            self._loop.remove_reader(self._keys)
            self._loop.add_writer(self._inner, self._pass_on)
        else:
            self._loop.remove_writer(self._inner)
            self._loop.add_reader(self._keys, self._typed)


def _write(fd: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # a screen that is gone shows nothing
        while data:
            data = data[os.write(fd, data) :]
