"""Whether the kernel has killed something for lack of memory, from its own counter.

A rootless engine usually has no memory cgroup of its own to ask. A command that died of SIGKILL which nobody here sent, while this
counter of the whole machine rose, was probably the victim.
"""

import os

_VMSTAT: int | None = None


def kills() -> int:
    """Return how many processes the kernel has killed for lack of memory since it started; 0 when it does not say."""
    global _VMSTAT
    try:
        if _VMSTAT is None:
            _VMSTAT = os.open("/proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)
        text = os.pread(_VMSTAT, 16384, 0)
    except OSError:
        return 0
    at = text.find(b"\noom_kill ")
    return int(text[at + 10 : text.index(b"\n", at + 10)]) if at >= 0 else 0
