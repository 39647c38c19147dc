"""Decides which of a run's ready stages goes next: at most so many at once, each with the GPUs and resources that it takes.

A stage that needs nothing special waits only for a turn. What needs a GPU or a shared resource also needs a claim (ci/leases.py), for which
other runs of the machine compete. Where one must wait for another, the stage whose model was used last goes first, so that a model is
loaded as seldom as possible; then the one on which most of the remaining time depends.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from ci.errors import InfraError
from ci.leases import Holder, Pool, Want

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from ci.gpu import Gpu
    from ci.leases import Blocked, Lease

# Others' claims end without a word to us; looking costs a few file names.
_TICK = 0.1
_LOOK_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a stage was granted."""

    gpus: tuple[Gpu, ...] = ()
    waited: float = 0.0
    """Seconds between being ready and being granted."""
    waited_for: str = ""
    """The last thing that was in the way, in words."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiter:
    name: str
    want: Want
    model: str
    weight: float
    tell: Callable[[str], None]
    since: float
    granted: anyio.Event = field(default_factory=anyio.Event)
    lease: Lease | None = None
    said: str = ""

    def leave_queue(self) -> None:
        """Give up the claim, granted or not."""
        if self.lease:
            self.lease.release()
            self.lease = None


@dataclass(slots=True, kw_only=True)
class Turns:
    """The stages of one run that wait or are under way."""

    slots: int
    run: str
    pool: Callable[[], Pool]
    """Asked for when the first stage wants something, because finding GPUs takes a while; again while one waits for memory."""
    patience: float
    """Seconds that a stage may wait for what others hold."""
    _pool: Pool | None = None
    _waiting: list[_Waiter] = field(default_factory=list)
    _working: int = 0
    _looked: float = 0.0
    _last_model: str = ""
    _last_gpus: dict[str, tuple[str, ...]] = field(default_factory=dict)

    async def known(self) -> Pool:
        """Return what the machine has."""
        if self._pool is None:
            self._pool = await anyio.to_thread.run_sync(self.pool)
        return self._pool

    @contextlib.asynccontextmanager
    async def turn(
        self, name: str, want: Want, *, model: str = "", weight: float = 0.0, tell: Callable[[str], None]
    ) -> AsyncIterator[Turn]:
        """Wait until it is a stage's turn, and keep what it was granted until the block ends.

        Raises:
            InfraError: this machine does not have what the stage wants, or others held it for too long.

        """
        waiter = _Waiter(name=name, want=want, model=model, weight=weight, tell=tell, since=time.monotonic())
        if want and (never := (await self.known()).impossible(want)):
            raise InfraError(
                f"{name} {never}", where="stages", hint=f"ask for less in stages.{name}, or run where there is more", lasting=True
            )
        self._waiting.append(waiter)
        try:
            self._grant()
            while not waiter.granted.is_set():
                with anyio.move_on_after(_TICK if want else None):
                    await waiter.granted.wait()
                self._check_patience(waiter)
                await self._look_again(want)
                self._grant()
            gpus = self._gpus_of(waiter)
            yield Turn(gpus=gpus, waited=time.monotonic() - waiter.since if waiter.said else 0.0, waited_for=waiter.said)
        finally:
            self._leave(waiter)
            self._grant()

    async def _look_again(self, want: Want) -> None:
        """Learn anew how much memory is used by others, when that matters."""
        if want.memory and time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._pool = await anyio.to_thread.run_sync(self.pool)

    def _gpus_of(self, waiter: _Waiter) -> tuple[Gpu, ...]:
        chosen = waiter.lease.gpus if waiter.lease else ()
        return tuple(gpu for uuid in chosen if self._pool for gpu in self._pool.gpus if gpu.uuid == uuid)

    def _grant(self) -> None:
        """Let everybody go who can, those first who should."""
        taken: set[str] = set()
        for waiter in sorted(self._waiting, key=self._rank):
            if self._working >= self.slots:
                self._say(waiter, f"waits for a turn: {self._count()}")
                waiter.leave_queue()  # others shall not wait for who could not go anyway
                continue
            # What a better placed stage waits for is not given to another, or it would never get two of them together.
            blocked = self._try(waiter) if not taken & waiter.want.kinds else None
            if waiter.granted.is_set():
                self._waiting.remove(waiter)
                self._working += 1
                self._last_model = waiter.model or self._last_model
                continue
            taken |= waiter.want.kinds
            if blocked is not None and blocked.holders:
                self._say(waiter, str(blocked))

    def _count(self) -> str:
        return "another stage is under way" if self.slots == 1 else f"{self.slots} stages are under way"

    def _rank(self, waiter: _Waiter) -> tuple[bool, float, float]:
        return (not waiter.model or waiter.model != self._last_model, -waiter.weight, waiter.since)

    def _try(self, waiter: _Waiter) -> Blocked | None:
        if not waiter.want:
            waiter.granted.set()
            return None
        assert self._pool is not None
        if waiter.lease is None:
            waiter.lease = self._pool.enter(waiter.want, Holder(run=self.run, stage=waiter.name))
            if waiter.lease is None:
                return None
        blocked = self._pool.grant(waiter.lease, self._last_gpus.get(waiter.model, ()) if waiter.model else ())
        if blocked is None:
            self._last_gpus[waiter.model] = waiter.lease.gpus
            waiter.granted.set()
        return blocked

    @staticmethod
    def _say(waiter: _Waiter, line: str) -> None:
        if line != waiter.said:
            waiter.said = line
            waiter.tell(line)

    def _check_patience(self, waiter: _Waiter) -> None:
        if waiter.granted.is_set() or not waiter.want or time.monotonic() - waiter.since < self.patience:
            return
        hint = "who holds it is named above; run.wait says how long to wait"
        raise InfraError(f"{waiter.name} waited {self.patience:.0f} s: {waiter.said or 'nothing was granted'}", hint=hint, lasting=True)

    def _leave(self, waiter: _Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        else:
            self._working -= 1
        waiter.leave_queue()


def machine(resources: Mapping[str, int], environ: Mapping[str, str], gpus: Sequence[Gpu] | None = None) -> Pool:
    """Return what this machine has; `gpus` overrides what is found."""
    from ci import gpu
    from ci.leases import place

    return Pool(directory=place(environ), gpus=gpu.found() if gpus is None else gpus, amounts=resources)
