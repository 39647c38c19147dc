"""What to run, as one value: what the command line, the configuration and the surroundings came to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ci.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from ci.config.model import BaseConfig, Config
    from ci.engine import EngineChoice
    from ci.facts import Facts
    from ci.plan import Plan
    from ci.remote import Remote
    from ci.resume import Resumed
    from ci.stage import Base, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to run."""

    config: Config
    facts: Facts
    plan: Plan
    stages: Mapping[str, Stage]
    root: Path
    cache: Path
    engine: EngineChoice
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stage → arguments from the command line; such a stage is neither reused nor remembered."""
    selection: Selection = field(default_factory=Selection)
    store: Remote | None = None
    """What stands behind the memo, for machines that vanish."""
    resume: Resumed | None = None
    """The run to go on with."""
    keep_going: bool = False
    """Whether stages that do not need a failed one are carried out all the same."""
    budget: float | None = None
    """Minutes that the run may take, 0 for as long as it likes; None for what policy says."""
    keep_failed: bool = False
    """Whether the container of a stage that fails is kept, to be looked into."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the engine's session gets besides this process's environment."""
    started: float = field(default_factory=time.monotonic)
    """When the program started, in monotonic seconds: what a person waits for includes that."""
    resolve_base: Callable[[BaseConfig, Path, Path], Awaitable[Base]] | None = None
    """`(config.base, root, cache)`; None for `ci.base.choice.resolve`."""
