"""The shape of `run` and `stages`: how a run's stages share the machine, how long they may take, how often they are tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from ci.config.limits import Limits
from ci.config.values import STRICT, Amount, Seconds, named


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How the stages of a run share the machine, and when one is given up."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    concurrency: Annotated[int, Limits(ge=1, le=64)] = 4
    """How many stages may be under way at once."""
    timeout: Seconds = 3600.0
    """How long a stage may work, in seconds; waiting for a GPU or a turn does not count."""
    attempts: Annotated[int, Limits(ge=1, le=10)] = 3
    """How often a stage is begun at most when infrastructure fails; failing tests and gates are never repeated."""
    backoff: Seconds = 2.0
    """Seconds before the second attempt, give or take a half; doubled before each further one, up to a minute."""
    keep_going: bool = False
    """Whether stages that do not need a failed one are carried out all the same."""
    wait: Seconds = 3600.0
    """How long a stage may wait for GPUs and resources that others hold, in seconds."""
    resources: Mapping[str, int] = field(default_factory=dict)
    """Name of something that all runs of this machine share → how much of it there is (`licence: 2`)."""

    def __post_init__(self) -> None:
        for name, amount in self.resources.items():
            named(name, "resources")
            if name == "gpu" or amount < 1:
                raise ValueError("resources has GPUs by itself" if name == "gpu" else f"resources.{name} must be at least 1, got {amount}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """What one stage may take, and where a stage of the repository's own is; what is not said here is as `run` says."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    use: str = ""
    """Import path of a stage of your own, `module:Class`, below the repository root; the standard stages need none."""
    before: tuple[str, ...] = ()
    """For a stage of your own: the stages that wait for it."""

    timeout: Seconds | None = None
    """How long it may work, in seconds."""
    attempts: Annotated[int, Limits(ge=1, le=10)] | None = None
    """How often it is begun at most when infrastructure fails."""
    gpus: Annotated[int, Limits(ge=0, le=64)] | None = None
    """How many GPUs it needs; without a number, `evaluate` takes one where the machine has any, other stages none."""
    gpu_memory: Amount | None = None
    """GiB that it needs on each GPU, which it then shares with others; without a number it has its GPUs for itself."""
    resources: Mapping[str, int] = field(default_factory=dict)
    """How much it takes of what `run.resources` names."""
    model: str = ""
    """What takes long to load: stages that name the same are carried out one after another where they share a GPU or a turn."""
