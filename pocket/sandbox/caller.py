"""The files of another process, found as it would find them, through a procfs.

For answering a call in the kernel's stead (`pocket.sandbox.record`). A path is followed below the process's own root, from its own
directory, and no further: the kernel keeps the lookup inside.
"""

from __future__ import annotations

import errno
import os

from pocket.sandbox import linux

_RETRIES = 5


class Callers:
    """The processes of one container, seen through the directory of a procfs.

    foreign: the procfs is of another pid namespace than this process is in, so that numbers have to be translated.
    """

    def __init__(self, proc: int, *, foreign: bool) -> None:
        self._proc, self._foreign = proc, foreign

    def path(self, fd: int) -> str:
        """Return where what one of our own descriptors shows is now."""
        return os.readlink(f"self/fd/{fd}", dir_fd=self._proc)

    def descriptor(self, pid: int, number: int) -> int:
        """Open what a process's descriptor, or AT_FDCWD, stands for."""
        name = "cwd" if number == linux.AT_FDCWD else f"fd/{number}"
        try:
            return os.open(f"{self._number(pid)}/{name}", os.O_PATH, dir_fd=self._proc)
        except FileNotFoundError as error:
            raise failure(errno.EBADF) from error

    def maker(self, pid: int) -> tuple[int, int]:
        """Return (effective user id as this process's namespace has it, file mode creation mask) of a process."""
        fields = dict(line.split(":", 1) for line in self._status(self._number(pid)) if line.startswith(("Uid:", "Umask:")))
        return int(fields["Uid"].split()[1]), int(fields["Umask"], 8)

    def walk(self, pid: int, at: int, path: bytes, flags: int) -> int | None:
        """Open a path of a process, relative to one of its descriptors; None behind a link of procfs, such as /dev/stdout."""
        base = None if path.startswith(b"/") else self.descriptor(pid, at)
        try:
            if base is not None:
                try:
                    return _opened(base, path, flags, linux.RESOLVE_BENEATH)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                path = self._below_root(pid, base) + b"/" + path
        finally:
            if base is not None:
                os.close(base)
        root = os.open(f"{self._number(pid)}/root", os.O_PATH | os.O_DIRECTORY, dir_fd=self._proc)
        try:
            return _opened(root, path, flags, linux.RESOLVE_IN_ROOT)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return None
            raise
        finally:
            os.close(root)

    def _below_root(self, pid: int, base: int) -> bytes:
        root = os.readlink(f"{self._number(pid)}/root", dir_fd=self._proc).rstrip("/")
        return os.fsencode(self.path(base).removeprefix(root))

    def _status(self, number: int) -> list[str]:
        with open(os.open(f"{number}/status", os.O_RDONLY, dir_fd=self._proc), encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()

    def _number(self, pid: int) -> int:
        """Return what procfs calls a process."""
        if not self._foreign:
            return pid
        ours = os.readlink("self/ns/pid", dir_fd=self._proc)
        for name in os.listdir(self._proc):
            if name.isdigit() and self._is(int(name), pid, ours):
                return int(name)
        raise failure(errno.ESRCH)

    def _is(self, candidate: int, pid: int, namespace: str) -> bool:
        try:
            numbers = next(line for line in self._status(candidate) if line.startswith("NSpid:"))
            return int(numbers.split()[-1]) == pid and os.readlink(f"{candidate}/ns/pid", dir_fd=self._proc) == namespace
        except (OSError, StopIteration):
            return False


def _opened(base: int, path: bytes, flags: int, resolve: int) -> int:
    for _ in range(_RETRIES):
        try:
            return linux.open_in_root(base, path, flags, resolve)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # somebody renames while ".." is followed
                raise
    raise failure(errno.EAGAIN)


def failure(number: int) -> OSError:
    """Return the error of a call that fails with this number."""
    return OSError(number, os.strerror(number))
