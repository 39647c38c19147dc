"""Turns whatever a stage raised into one error that says whose fault it was and how the run ends.

The subject's fault is `StageFailed`, a verdict is `GateBlocked`; engine, network, registry and disk are infrastructure. What is none of
these is a bug of this program and keeps its traceback.
"""

from __future__ import annotations

import errno
import sys
import traceback
from typing import TYPE_CHECKING, Any

from ci.causes import hint_of
from ci.errors import InfraError, WeighbridgeError
from ci.exits import BUG
from ci.stage import StageFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAIL_LINES = 40
_DISK = {
    errno.ENOSPC: "free some space, or set WEIGHBRIDGE_CACHE to a directory on another disk",
    errno.EDQUOT: "free some space, or set WEIGHBRIDGE_CACHE to a directory on another disk",
    errno.EROFS: "set WEIGHBRIDGE_CACHE to a directory that can be written to",
    errno.EACCES: "this user may not use that file; WEIGHBRIDGE_CACHE says where the cache is",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOMEM: "the machine has no memory left",
}
# What an engine says when trying again would only say it again.
_LASTING = ("No space left on device", "Disk quota exceeded", "Permission denied", "Read-only file system", "no NVIDIA GPU")
_KILLED = 128 + 9


class Bug(WeighbridgeError):
    """Something that should not happen; `tail` is the traceback."""

    def __init__(self, error: BaseException) -> None:
        last = traceback.extract_tb(error.__traceback__)[-1:]
        where = f"{last[0].filename.rpartition('/')[2]}:{last[0].lineno}" if last else ""
        super().__init__(
            f"this is a bug in weighbridge: {type(error).__name__}: {error}", where=where, hint="please report it with run.json"
        )
        self.exit = BUG  # type: ignore[assignment]  # outside the table on purpose
        self.tail = "".join(traceback.format_exception(error))


def classify(error: BaseException) -> WeighbridgeError:
    """Return the error that says what `error` means for the run; of several, the one that counts most."""
    from ci.exits import worst

    found = [_one(leaf) for leaf in _leaves(error)]
    code = worst(problem.exit for problem in found)
    return next(problem for problem in found if problem.exit == code)


def ended_with(code: int) -> str:
    """Word the exit code of a step; 137 says that it was killed, which the kernel does when memory runs out."""
    return f"killed (exit code {code}), probably for lack of memory" if code == _KILLED else f"exit code {code}"


def hint_for(code: int) -> str:
    """Return what to do about the exit code of a step, where that is known."""
    if code == _KILLED:
        return "run it where there is more memory, or make it use less: a smaller batch, fewer workers, a lower run.concurrency"
    return "the program crashed (segmentation fault); a native library may not fit this machine" if code == 128 + 11 else ""


def tail_of(text: str) -> str:
    """Return the last lines of a program's output."""
    return "\n".join(text.rstrip().splitlines()[-_TAIL_LINES:])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _one(error: BaseException) -> WeighbridgeError:
    if isinstance(error, WeighbridgeError):
        return error
    # Asked for by name: a run that never opened a session has not imported the SDK, and must not for this.
    sdk: Any = sys.modules.get("dagger")
    if sdk is not None and isinstance(error, sdk.ExecError):
        command = " ".join(error.command)
        shown = command if len(command) <= 200 else command[:197] + "..."
        said = tail_of(error.stderr or error.stdout or "")
        return StageFailed(f"{ended_with(error.exit_code)}: {shown}", tail=said, hint=hint_for(error.exit_code) or hint_of(said))
    if sdk is not None and isinstance(error, sdk.DaggerError):
        return InfraError(f"the engine: {error}", hint=hint_of(str(error)), lasting=any(words in str(error) for words in _LASTING))
    if isinstance(error, OSError) and error.errno in _DISK:
        return InfraError(str(error), hint=_DISK[error.errno], lasting=True)
    if isinstance(error, (ConnectionError, TimeoutError)) or type(error).__module__.partition(".")[0] in {"httpx", "httpcore", "gql"}:
        return InfraError(f"{type(error).__name__}: {error}", hint=hint_of(str(error)))
    return Bug(error)
