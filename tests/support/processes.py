"""Watch and end running pipelines: what belongs to one, when it is inside a container, and what it must not leave behind.

Everything is read from /proc. Waiting is `Popen.wait` with a time limit, so a pipeline that ends early ends the waiting.
"""

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

TICK = 0.02
PATIENCE = 15_000  # ticks: five minutes


def tree_of(pid: int) -> set[int]:
    """List a process and everything below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = set[int](), [pid]
    while waiting:
        current = waiting.pop()
        found.add(current)
        waiting += children.get(current, [])
    return found


def concerned_with(path: Path) -> Iterator[tuple[int, str]]:
    """Find processes that have to do with a directory: in their command line, environment or mounts."""
    wanted = os.fsencode(path)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if any(wanted in (entry / name).read_bytes() for name in ("cmdline", "environ", "mountinfo")):
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended, or is somebody else's
            continue


def left_over(path: Path, *, patience: float = 10.0) -> list[tuple[int, str]]:
    """List processes that have to do with a directory and do not end within `patience` seconds.

    A process that was told to end may still be seen for a moment after its parent has been waited for; one that stays is a leak.
    """
    for pid, _ in list(concerned_with(path)):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        select.select([handle], [], [], patience)
        os.close(handle)
    return list(concerned_with(path))


def wait_until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> bool:
    """Wait until something is so; give False when the process ended before it was."""
    for _ in range(PATIENCE):
        if happened():
            return True
        try:
            process.wait(TICK)
        except subprocess.TimeoutExpired:
            continue
        return happened()
    return False


def in_container(process: subprocess.Popen[str]) -> bool:
    """Say whether any process below this one runs in a pid namespace of its own: a step is at work."""
    return any(_contained(pid) for pid in tree_of(process.pid))


def serving(process: subprocess.Popen[str], *, port: int, clients: int) -> int:
    """Find a process below this one that has at least so many connections on a port under way; 0 when there is none."""
    for pid in sorted(tree_of(process.pid)):
        try:
            if _contained(pid) and _connections(pid, port) >= clients and _listens(pid, port):
                return pid
        except OSError:
            continue
    return 0


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill -9 a process and everything below it, the parents first, so that none can tidy up after its children."""
    for pid in sorted(tree_of(process.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate()


def _contained(pid: int | str) -> bool:
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino != Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # it ended
        return False


def _sockets(pid: int, port: int, state: str) -> set[str]:
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return {fields[9] for fields in lines if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == port}


def _connections(pid: int, port: int) -> int:
    return len(_sockets(pid, port, "01"))


def _listens(pid: int, port: int) -> bool:
    listening = {f"socket:[{inode}]" for inode in _sockets(pid, port, "0A")}
    return any(str(entry.readlink()) in listening for entry in Path(f"/proc/{pid}/fd").iterdir())
