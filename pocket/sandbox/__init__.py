"""Runs commands in containers made of layers: namespaces, overlayfs, pid 1, users, seccomp; no daemon, no root needed.

Use: `enter_tier()` once while the process has a single thread, then `Zygote.start()`, then `await zygote.spawn(spec, ...)`.
Linux only. It keeps steps apart from each other and from the host's files; it is not a boundary against hostile code that
attacks the kernel.
"""

from pocket.sandbox.errors import SandboxError
from pocket.sandbox.spec import ExecSpec, Mount, NetHandle, Outcome
from pocket.sandbox.tier import Tier, enter_tier
from pocket.sandbox.zygote import Process, Zygote

__all__ = ["ExecSpec", "Mount", "NetHandle", "Outcome", "Process", "SandboxError", "Tier", "Zygote", "enter_tier"]
