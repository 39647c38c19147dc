"""Copy and hash many host files into a layer. A program of its own (standard library only, started without site packages), so that
several run beside each other on the first sync of a large directory and their memory goes back when they end.

    copier.py JOBS RESULTS SOURCE DEST PART PARTS

JOBS holds relative paths, each followed by NUL. One line per path is written to RESULTS: `mode size inode mtime_ns ctime_ns fresh
sha256`, or `!errno`. `fresh` is 1 when the file changed so lately that its times cannot be trusted the next time (git's racy rule).
"""

import errno
import hashlib
import os
import stat
import sys
import time
from collections.abc import Sequence

_BLOCK = 1 << 20
_SMALL = 1 << 16
# The kernel stamps files with a clock that ticks every 1 to 10 ms; file systems with whole (or even) seconds show a round number.
_TICK = 20_000_000
_COARSE = 2_000_000_000


def racy(mtime_ns: int, ctime_ns: int, now: int) -> bool:
    """Say whether a file could change once more without its times showing it."""
    newest = max(mtime_ns, ctime_ns)
    return newest >= now - (_COARSE if ctime_ns % 1_000_000_000 == 0 else _TICK)


def copy(source: str, dest: str, *, masked: bool = True) -> str:
    """Copy one file to a path that must not exist; return its line of results. `masked`: a umask is set.

    The one fstat comes after the reading: what changes meanwhile has the time of now, and is not trusted.
    """
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        return f"!{e.errno}"
    try:
        data = os.read(fd, _SMALL)
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            return f"!{errno.ENOENT}"
        mode = st.st_mode & 0o7777
        out = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            if len(data) == st.st_size:  # all of a small file, in one read
                digest, size = hashlib.sha256(data).hexdigest(), len(data)
                if data:
                    _write(out, data)
            else:
                digest, size = _pump(fd, out, data)
                st = os.fstat(fd)
            if masked or mode & 0o6000:  # writing clears setuid
                os.fchmod(out, mode)
            os.utime(out, ns=(st.st_mtime_ns, st.st_mtime_ns))
        finally:
            os.close(out)
        fresh = size != st.st_size or racy(st.st_mtime_ns, st.st_ctime_ns, time.time_ns())
        return f"{mode} {size} {st.st_ino} {st.st_mtime_ns} {st.st_ctime_ns} {fresh:d} {digest}"
    except OSError as e:
        return f"!{e.errno}"
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, data[done:])


def _pump(fd: int, out: int, data: bytes) -> tuple[str, int]:
    h, total = hashlib.sha256(), 0
    while data:
        h.update(data)
        total += len(data)
        _write(out, data)
        data = os.read(fd, _BLOCK)
    return h.hexdigest(), total


def main(argv: Sequence[str]) -> int:
    """Copy one part of the jobs."""
    jobs, results, source, dest, part, parts = argv
    with open(jobs, "rb") as f:
        paths = os.fsdecode(f.read()).split("\0")[:-1]
    share = (len(paths) + int(parts) - 1) // int(parts)
    os.umask(0)
    with open(results, "w", encoding="utf-8") as out:
        mine = paths[int(part) * share : (int(part) + 1) * share]
        parent = os.getppid()
        for n, path in enumerate(mine):
            out.write(copy(f"{source}/{path}", f"{dest}/{path}", masked=False) + "\n")
            if n % 64 == 0 and os.getppid() != parent:
                return 1  # nobody waits for the rest any more
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
