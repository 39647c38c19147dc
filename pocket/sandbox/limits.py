"""What the machine allows this process and its steps together: memory and processes, by control group and by user."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_LEAST_MEMORY = 1 << 30  # bytes: below that, compilers and test suites end in ways that do not say why
_LEAST_TASKS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The tightest limits above a process; None is no limit. `unified` tells whether there are control groups of version 2."""

    unified: bool
    memory: int | None = None  # bytes
    tasks: int | None = None

    @classmethod
    def read(cls, groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> Limits:
        """Read the limits of this process's group and of all above it, and of its user."""
        try:
            own = next(line[3:] for line in membership.read_text().splitlines() if line.startswith("0::"))
        except (OSError, StopIteration):
            return cls(unified=False, tasks=_of_user())
        home = groups / own.strip("/")
        above = [home, *home.parents]
        above = above[: above.index(groups) + 1] if groups in above else [groups]
        if not (groups / "cgroup.controllers").exists():
            return cls(unified=False, tasks=_of_user())
        tasks = [n for n in (_number(g / "pids.max") for g in above) if n is not None]
        memory = [n for n in (_number(g / "memory.max") for g in above) if n is not None]
        return cls(unified=True, memory=min(memory, default=None), tasks=min([*tasks, *filter(None, [_of_user()])], default=None))

    def describe(self) -> str:
        """Return one line for people."""
        memory = "no limit of memory" if self.memory is None else f"at most {self.memory / 2**30:.1f} GiB of memory"
        tasks = "no limit of processes" if self.tasks is None else f"at most {self.tasks} processes"
        return f"{memory}, {tasks}" + ("" if self.unified else " (no control groups of version 2: limits of memory are not known)")

    def advice(self) -> str:
        """Return what to change, when a limit is so low that steps will meet it; else "" ."""
        low = []
        if self.memory is not None and self.memory < _LEAST_MEMORY:
            low.append("memory (systemd: MemoryMax=, docker: --memory)")
        if self.tasks is not None and self.tasks < _LEAST_TASKS:
            low.append("processes (systemd: TasksMax=, docker: --pids-limit, ulimit -u)")
        return f"allow more {' and '.join(low)}" if low else ""


def _of_user() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return None if soft == resource.RLIM_INFINITY else soft


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
