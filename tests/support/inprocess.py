"""A query engine in the test's own process, which can do everything but run commands: for those it would need a single thread."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sessions import Step, value

from pocket.engine import Engine
from pocket.query import Executor

OWN_TIER = "root" if os.geteuid() == 0 else "single-uid"


@dataclass(frozen=True, slots=True)
class Api:
    """An engine without a forkserver, and the query engine over it."""

    engine: Engine
    executor: Executor

    async def __call__(self, *steps: Step) -> Any:
        """Ask for the leaf of a chain."""
        return await value(self.executor.execute, *steps)


Engines = Callable[[], Engine]
