"""A program on a terminal of its own, as somebody at a keyboard sees it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_PATIENCE = 120.0  # seconds


@dataclass(slots=True)
class Terminal:
    """The keyboard and screen of a running program."""

    process: subprocess.Popen[bytes]
    fd: int
    screen: str = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.fd, text.encode())

    def wait_for(self, text: str) -> str:
        """Read until a text is on the screen; give what came before it, and forget both."""
        deadline = time.monotonic() + _PATIENCE
        while text not in self.screen:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not appear: {self.screen!r}"
            try:
                data = os.read(self.fd, 65536)
            except OSError as e:
                raise AssertionError(f"the program ended before {text!r}: {self.screen!r}") from e
            self.screen += data.decode(errors="replace")
        before, _, self.screen = self.screen.partition(text)
        return before

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def settings(self) -> object:
        """Give how the terminal treats keys."""
        return termios.tcgetattr(self.fd)

    def end(self) -> int:
        """Wait for the program's end; give its exit code."""
        return self.process.wait(_PATIENCE)


@contextlib.contextmanager
def on_terminal(*argv: str, env: Mapping[str, str] | None = None, rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    """Run a program as the leader of a session on a new terminal; killed at the end of the block."""
    fd, side = os.openpty()
    try:
        # setsid(1) makes the terminal the controlling one, which Popen cannot.
        process = subprocess.Popen(["setsid", "--ctty", *argv], stdin=side, stdout=side, stderr=side, env=dict(env or os.environ))
    finally:
        terminal = Terminal(process, fd)
        terminal.resize(rows, columns)
    try:
        yield terminal
    finally:
        process.kill()
        process.wait()
        os.close(side)
        os.close(fd)
