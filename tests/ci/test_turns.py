"""Turns within one run: how many at once, who goes first, and what is said to those who wait."""

from functools import partial
from pathlib import Path

import anyio
import pytest

from ci.errors import InfraError
from ci.gpu import Gpu
from ci.leases import Holder, Pool, Want
from ci.turns import Turn, Turns, machine

CARDS = [Gpu(index=number, uuid=f"GPU-{number}", name="L4", memory=24_000) for number in range(2)]
GPU = Want(gpus=1)


def turns(directory: Path, *, slots: int = 8, cards: int = 1, patience: float = 60.0, run: str = "run-1") -> Turns:
    return Turns(slots=slots, run=run, pool=lambda: Pool(directory=directory, gpus=CARDS[:cards], amounts={}), patience=patience)


class Stages:
    """Stages that take their turns; each ends when it is told to."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.order: list[str] = []
        self.said: list[str] = []
        self.granted: dict[str, Turn] = {}
        self.waiting: dict[str, anyio.Event] = {}
        self.began: dict[str, anyio.Event] = {}
        self.may_end: dict[str, anyio.Event] = {}

    async def stage(self, name: str, want: Want, *, model: str = "", weight: float = 0.0, ends: bool = False) -> None:
        began, may_end = self.began.setdefault(name, anyio.Event()), self.may_end.setdefault(name, anyio.Event())
        waiting = self.waiting.setdefault(name, anyio.Event())

        def tell(line: str) -> None:
            self.said.append(f"{name} {line}")
            waiting.set()

        async with self.turns.turn(name, want, model=model, weight=weight, tell=tell) as turn:
            self.order.append(name)
            self.granted[name] = turn
            began.set()
            if not ends:
                await may_end.wait()

    async def until(self, name: str) -> None:
        await self.began.setdefault(name, anyio.Event()).wait()

    async def until_waiting(self, name: str) -> None:
        await self.waiting.setdefault(name, anyio.Event()).wait()

    def end(self, name: str) -> None:
        self.may_end.setdefault(name, anyio.Event()).set()


async def test_no_more_at_once_than_configured(tmp_path: Path) -> None:
    stages = Stages(turns(tmp_path, slots=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stages.stage, "first", Want())
        await stages.until("first")
        tasks.start_soon(stages.stage, "second", Want())
        await stages.until_waiting("second")
        assert stages.order == ["first"]
        stages.end("second")
        stages.end("first")
    assert stages.order == ["first", "second"]
    assert stages.said == ["second waits for a turn: another stage is under way"]
    assert stages.granted["second"].waited_for == "waits for a turn: another stage is under way"


async def test_one_gpu_for_two_stages(tmp_path: Path) -> None:
    stages = Stages(turns(tmp_path))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stages.stage, "first", GPU)
        await stages.until("first")
        tasks.start_soon(stages.stage, "second", GPU)
        await stages.until_waiting("second")
        tasks.start_soon(partial(stages.stage, "other", Want(), ends=True))
        await stages.until("other")  # needs no GPU, so nothing is in its way
        stages.end("second")
        stages.end("first")
    assert stages.order == ["first", "other", "second"]
    assert stages.said[0].startswith("second waits for GPU 0: held by first of run run-1 (pid ")
    assert [gpu.uuid for gpu in stages.granted["second"].gpus] == ["GPU-0"]


async def test_the_model_that_was_used_last_goes_first_then_the_longest(tmp_path: Path) -> None:
    """Four stages of two models on one GPU: the models are switched once, not three times."""
    stages = Stages(turns(tmp_path))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(stages.stage, "a1", GPU, model="a"))
        await stages.until("a1")
        for name, model, weight in (("b1", "b", 9.0), ("b2", "b", 8.0), ("a2", "a", 1.0)):
            tasks.start_soon(partial(stages.stage, name, GPU, model=model, weight=weight, ends=True))
        await stages.until_waiting("b1")
        stages.end("a1")
    assert stages.order == ["a1", "a2", "b1", "b2"]


async def test_a_model_returns_to_the_gpu_where_it_was(tmp_path: Path) -> None:
    stages = Stages(turns(tmp_path, cards=2))
    async with anyio.create_task_group() as tasks:
        for name in ("a", "b"):
            tasks.start_soon(partial(stages.stage, name, GPU, model=name))
            await stages.until(name)
        stages.end("a")
        stages.end("b")
    await stages.stage("b-again", GPU, model="b", ends=True)
    await stages.stage("a-again", GPU, model="a", ends=True)
    assert [stages.granted[name].gpus[0].index for name in ("a", "b", "b-again", "a-again")] == [0, 1, 1, 0]


async def test_who_needs_two_gets_two_though_others_need_one(tmp_path: Path) -> None:
    stages = Stages(turns(tmp_path, cards=2))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stages.stage, "one", GPU)
        await stages.until("one")
        tasks.start_soon(partial(stages.stage, "both", Want(gpus=2), weight=5.0, ends=True))
        await stages.until_waiting("both")
        tasks.start_soon(partial(stages.stage, "late", GPU, ends=True))
        await anyio.lowlevel.checkpoint()
        stages.end("one")
    assert stages.order == ["one", "both", "late"]


async def test_a_stage_without_a_turn_keeps_no_place_in_the_queue_of_the_machine(tmp_path: Path) -> None:
    """It could not go anyway, and others would wait for nothing."""
    mine, theirs = Stages(turns(tmp_path, slots=1)), Stages(turns(tmp_path, run="run-2"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mine.stage, "first", Want())
        await mine.until("first")
        tasks.start_soon(mine.stage, "second", GPU)
        await mine.until_waiting("second")
        await theirs.stage("evaluate", GPU, ends=True)
        mine.end("second")
        mine.end("first")
    assert theirs.said == []


async def test_what_was_granted_is_given_back_however_a_stage_ends(tmp_path: Path) -> None:
    one = turns(tmp_path)
    for error in (ValueError("no"), None):
        with anyio.CancelScope() as scope:
            with pytest.raises(ValueError, match="no") if error else anyio.CancelScope():
                async with one.turn("first", GPU, tell=print):
                    if error:
                        raise error
                    scope.cancel()
                    await anyio.sleep_forever()
    async with anyio.create_task_group() as tasks, one.turn("holder", GPU, tell=print):
        with anyio.CancelScope() as waiting:
            waits = Stages(one)
            tasks.start_soon(waits.stage, "second", GPU)
            await waits.until_waiting("second")
            tasks.cancel_scope.cancel()
        del waiting
    assert (one._working, one._waiting) == (0, [])
    assert [path.name for path in tmp_path.iterdir()] == ["gate"]


async def test_a_machine_that_does_not_have_it_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="evaluate needs 4 GPUs, and this machine has L4") as caught:
        async with turns(tmp_path).turn("evaluate", Want(gpus=4), tell=print):
            pass
    assert caught.value.lasting
    assert "stages.evaluate" in caught.value.hint


async def test_patience_ends_and_says_who_holds_it(tmp_path: Path) -> None:
    pool = Pool(directory=tmp_path, gpus=CARDS[:1], amounts={})
    lease = pool.enter(GPU, Holder(run="run-of-another", stage="train"))
    assert lease is not None
    assert pool.grant(lease) is None
    with pytest.raises(InfraError, match=r"evaluate waited 0 s: waits for GPU 0: held by train of run run-of-another"):
        async with turns(tmp_path, patience=0.0).turn("evaluate", GPU, tell=print):
            pass


async def test_memory_is_looked_at_again_while_one_waits(tmp_path: Path) -> None:
    looks = []

    def look() -> Pool:
        looks.append(1)
        used = 24_000 if len(looks) == 1 else 0
        return Pool(directory=tmp_path, gpus=[Gpu(index=0, uuid="u", name="L4", memory=24_000, used=used)], amounts={})

    async with Turns(slots=1, run="run-1", pool=look, patience=60.0).turn("evaluate", Want(gpus=1, memory=1_000), tell=print) as turn:
        assert [gpu.uuid for gpu in turn.gpus] == ["u"]
    assert len(looks) == 2


def test_the_machine_is_asked_for_its_gpus(tmp_path: Path) -> None:
    found = machine({"licence": 1}, {"WEIGHBRIDGE_LEASES": str(tmp_path)}, CARDS)
    assert (found.directory, list(found.gpus), found.amounts) == (tmp_path, CARDS, {"licence": 1})
