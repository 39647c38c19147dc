"""Runs commands in containers made of layers: namespaces, overlayfs, pid 1, users, seccomp; no daemon, no root needed.

Use: `enter_tier()` once while the process has a single thread, then `Zygote.start()`, then `await zygote.spawn(spec, ...)`.
Linux only. It keeps steps apart from each other and from the host's files; it is not a boundary against hostile code that
attacks the kernel.

Only what starts a session is loaded with the package; a session prints its line the sooner for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from pocket.sandbox.errors import SandboxError
from pocket.sandbox.tier import Tier, enter_tier
from pocket.sandbox.zygote import Zygote

if TYPE_CHECKING:
    from pocket.sandbox.process import Process
    from pocket.sandbox.spec import ExecSpec, Mount, NetHandle, Outcome

__all__ = ["ExecSpec", "Mount", "NetHandle", "Outcome", "Process", "SandboxError", "Tier", "Zygote", "enter_tier"]
_LATER = {"ExecSpec": "spec", "Mount": "spec", "NetHandle": "spec", "Outcome": "spec", "Process": "process"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"pocket.sandbox.{_LATER[name]}"), name)
