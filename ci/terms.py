"""The terms on which each stage runs: how long it may work, how often it is tried, and what it takes of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ci.config.running import StageConfig
from ci.errors import InfraError, UsageError
from ci.leases import Want

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ci.config.model import Config
    from ci.errors import WeighbridgeError
    from ci.stage import Stage

_MIB_PER_GIB = 1024
_LONGEST = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for one stage of one run."""

    timeout: float
    """Seconds that the stage may work."""
    attempts: int
    backoff: float
    """Seconds before the second attempt, on average."""
    want: Want
    may_want_gpu: bool
    """Whether it takes a GPU when there is one, and does without when there is none."""
    model: str
    """Stages with the same follow each other where they cannot run side by side; empty when it is nothing to them."""

    def wants_of(self, gpus: int) -> Want:
        """Return what the stage takes of a machine with so many GPUs."""
        return Want(gpus=1, amounts=self.want.amounts) if self.may_want_gpu and gpus else self.want

    def again_in(self, problem: WeighbridgeError, number: int) -> float | None:
        """Return after how many seconds to try again after attempt `number` (from 1) failed; None when that is no use or not allowed.

        Only infrastructure is tried again: repeating a test or a gate until it passes would hide what it found.
        """
        if not isinstance(problem, InfraError) or problem.lasting or number >= self.attempts:
            return None
        import random  # not where nothing has failed: a run in which nothing changed passes here as well

        # Spread out, so that runs which failed together do not come back together.
        return min(_LONGEST, self.backoff * 2.0 ** (number - 1)) * random.uniform(0.5, 1.5)  # noqa: S311  hides nothing


def terms_of(config: Config, stages: Mapping[str, Stage]) -> dict[str, Terms]:
    """Return stage → its terms.

    Raises:
        UsageError: the configuration speaks of a stage that does not exist.

    """
    from ci.stages import STAGES

    known = {*stages, *STAGES}  # a shorter pipeline may be described by a configuration for the whole one
    for name in config.stages:
        if name not in known:
            raise UsageError(f'there is no stage "{name}"', where="stages", hint=f"stages: {', '.join(stages)}")
    return {name: _terms(config, _own(config, name), stage) for name, stage in stages.items()}


def _own(config: Config, name: str) -> StageConfig:
    """Return what the configuration says of a stage; for `evaluate[instruct]` else what it says of `evaluate`."""
    return config.stages.get(name) or config.stages.get(name.partition("[")[0], StageConfig())


def _terms(config: Config, own: StageConfig, stage: Stage) -> Terms:
    memory = round((own.gpu_memory or 0) * _MIB_PER_GIB)
    # Who says how much memory it needs, needs a GPU.
    gpus = own.gpus if own.gpus is not None else int(own.gpu_memory is not None)
    return Terms(
        timeout=own.timeout or config.run.timeout,
        attempts=own.attempts or config.run.attempts,
        backoff=config.run.backoff,
        want=Want(gpus=gpus, memory=memory if gpus else 0, amounts=dict(own.resources)),
        may_want_gpu=stage.gpu and own.gpus is None and own.gpu_memory is None,
        model=own.model,
    )
