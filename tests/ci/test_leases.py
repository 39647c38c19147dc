"""Leases between processes of one machine: who gets what, who is told, and what becomes of a claim whose holder dies."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ci.errors import InfraError
from ci.gpu import Gpu
from ci.leases import Blocked, Holder, Lease, Pool, Want, place

SMALL = Gpu(index=0, uuid="GPU-small", name="L4", memory=24_000)
LARGE = Gpu(index=1, uuid="GPU-large", name="H200", memory=140_000)
OTHER = """
import sys
from pathlib import Path
from ci.gpu import Gpu
from ci.leases import Holder, Pool, Want
gpus = [Gpu(index=0, uuid="GPU-small", name="L4", memory=24_000)]
pool = Pool(directory=Path(sys.argv[1]), gpus=gpus, amounts={})
lease = pool.enter(Want(gpus=1), Holder(run="run-of-another", stage="evaluate"))
assert pool.grant(lease) is None
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(directory=tmp_path, gpus=(SMALL, LARGE), amounts={"licence": 2})


def ask(
    pool: Pool, want: Want, *, run: str = "run-1", stage: str = "evaluate", prefer: tuple[str, ...] = ()
) -> tuple[Lease, Blocked | None]:
    lease = pool.enter(want, Holder(run=run, stage=stage))
    assert lease is not None
    return lease, pool.grant(lease, prefer)


@contextmanager
def another_process(directory: Path, repository: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the small GPU in another process."""
    environ = {**os.environ, "PYTHONPATH": str(repository)}
    command = (sys.executable, "-c", OTHER, str(directory))
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        try:
            yield process
        finally:
            process.kill()


# --- what is granted


def test_the_smallest_gpu_that_does_is_taken_first(pool: Pool) -> None:
    first, second, third = (ask(pool, Want(gpus=1), run=f"run-{number}") for number in range(3))
    assert (first[0].gpus, first[1], second[0].gpus, second[1]) == (("GPU-small",), None, ("GPU-large",), None)
    assert third[0].gpus == ()
    assert "waits for 1 of 2 GPUs: held by evaluate of run run-0" in str(third[1])
    assert str(third[1]).endswith("and 1 more")


def test_what_was_used_before_is_taken_again(pool: Pool) -> None:
    assert ask(pool, Want(gpus=1), prefer=("GPU-large",))[0].gpus == ("GPU-large",)


def test_memory_is_shared_until_it_is_gone(pool: Pool) -> None:
    """Three times 10000 MiB do not fit into 24000, so the third goes to the large one; a whole GPU is then nowhere free."""
    leases = [ask(pool, Want(gpus=1, memory=10_000), run=f"run-{number}")[0] for number in range(3)]
    assert [lease.gpus[0] for lease in leases] == ["GPU-small", "GPU-small", "GPU-large"]
    whole, blocked = ask(pool, Want(gpus=1), run="run-4")
    assert blocked is not None
    whole.release()
    leases[2].release()
    assert ask(pool, Want(gpus=1), run="run-5")[0].gpus == ("GPU-large",)


def test_memory_that_somebody_uses_without_a_lease_is_not_there(tmp_path: Path) -> None:
    busy = Pool(directory=tmp_path, gpus=[Gpu(index=0, uuid="u", name="L4", memory=24_000, used=20_000)], amounts={})
    lease, blocked = ask(busy, Want(gpus=1, memory=10_240))
    assert str(blocked) == "waits for GPU 0 with 10 GiB free (its memory is used by programs without a lease)"
    lease.release()
    assert ask(busy, Want(gpus=1, memory=2_048))[1] is None


def test_named_resources_are_counted(pool: Pool) -> None:
    one, _ = ask(pool, Want(amounts={"licence": 1}), run="run-1", stage="test")
    assert ask(pool, Want(amounts={"licence": 1}), run="run-2")[1] is None
    waiting, blocked = ask(pool, Want(amounts={"licence": 1}), run="run-3")
    assert "waits for licence (2 of 2 taken): held by test of run run-1" in str(blocked)
    one.release()
    assert pool.grant(waiting) is None


def test_all_or_nothing(pool: Pool) -> None:
    """One that cannot have its licences takes no GPU either."""
    both, _ = ask(pool, Want(amounts={"licence": 2}))
    lease, blocked = ask(pool, Want(gpus=1, amounts={"licence": 1}), run="run-2")
    assert (lease.gpus, blocked is None) == ((), False)
    both.release()
    assert pool.grant(lease) is None
    assert lease.gpus == ("GPU-small",)


def test_who_asked_earlier_goes_first(pool: Pool) -> None:
    """Who needs both GPUs would never get them if single ones were given to whoever comes."""
    holder, _ = ask(pool, Want(gpus=1), run="run-1")
    both, _ = ask(pool, Want(gpus=2), run="run-2")
    late, blocked = ask(pool, Want(gpus=1), run="run-3")
    assert str(blocked).startswith("waits for gpu: behind evaluate of run run-2 (pid ")
    holder.release()
    assert pool.grant(late) is not None
    assert pool.grant(both) is None
    both.release()
    assert pool.grant(late) is None


def test_stages_of_one_run_do_not_queue_behind_each_other(pool: Pool) -> None:
    ask(pool, Want(gpus=1), run="run-1")
    ask(pool, Want(gpus=2), run="run-2", stage="large")
    assert ask(pool, Want(gpus=1), run="run-2", stage="small")[1] is None


@pytest.mark.parametrize(
    ("want", "words"),
    [
        (Want(gpus=3), "needs 3 GPUs, and this machine has L4 (23 GiB), H200 (137 GiB)"),
        (Want(gpus=2, memory=40_960), "needs 2 GPUs with 40 GiB, and this machine has L4"),
        (Want(amounts={"licence": 3}), "needs 3 of licence, and run.resources has 2"),
        (Want(amounts={"other": 1}), "needs 1 of other, and run.resources has 0"),
        (Want(gpus=2, amounts={"licence": 2}), ""),
    ],
)
def test_what_can_never_be_granted_is_told_at_once(pool: Pool, want: Want, words: str) -> None:
    assert pool.impossible(want).startswith(words)
    assert bool(pool.impossible(want)) == bool(words)


# --- between processes


def test_another_process_is_named_with_run_pid_user_and_time(tmp_path: Path, repository: Path) -> None:
    pool = Pool(directory=tmp_path, gpus=(SMALL,), amounts={})
    with another_process(tmp_path, repository) as process:
        _, blocked = ask(pool, Want(gpus=1))
        said = str(blocked)
    assert said.startswith(f"waits for GPU 0: held by evaluate of run run-of-another (pid {process.pid}, ")
    assert ", since " in said


def test_a_lease_dies_with_its_holder(tmp_path: Path, repository: Path) -> None:
    pool = Pool(directory=tmp_path, gpus=(SMALL,), amounts={})
    with another_process(tmp_path, repository) as process:
        lease, blocked = ask(pool, Want(gpus=1))
        assert blocked is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert pool.grant(lease) is None
    assert [holder.run for holder in pool.holders()] == ["run-1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [lease.name, "gate"]  # nothing of the dead one is left


def test_a_process_that_lived_on_as_a_child_does_not_keep_the_lease(tmp_path: Path, repository: Path) -> None:
    """What a holder starts must not inherit the lock, or a daemon would keep the GPU for ever."""
    pool = Pool(directory=tmp_path, gpus=(SMALL,), amounts={})
    lease, _ = ask(pool, Want(gpus=1))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        lease.release()
        assert ask(pool, Want(gpus=1), run="run-2")[1] is None
        child.kill()


def test_files_that_nobody_locks_and_files_that_say_nothing_count_for_nothing(pool: Pool) -> None:
    (pool.directory / "00000000000000000001-1-aaaaaa.claim").write_text('{"gpus": {"GPU-small": -1}}')
    odd = pool.enter(Want(gpus=2), Holder(run="other", stage="odd"))
    assert odd is not None
    os.truncate(pool.directory / odd.name, 0)  # what a future version might have written
    assert ask(pool, Want(gpus=2))[1] is None


def test_nobody_waits_at_the_gate(pool: Pool) -> None:
    """Who holds the gate may have been stopped; a run must stay interruptible."""
    lease, _ = ask(pool, Want(gpus=1))
    with pool._gate() as mine:
        assert mine
        assert pool.enter(Want(gpus=1), Holder(run="run-2", stage="x")) is None
        assert pool.grant(lease) == Blocked(what="the gate", holders=())
        assert pool.holders() == []


def test_a_lease_may_be_released_twice(pool: Pool) -> None:
    lease, _ = ask(pool, Want(gpus=1))
    lease.release()
    lease.release()
    assert pool.holders() == []


# --- the directory


def test_every_user_finds_and_may_use_the_same_directory(tmp_path: Path) -> None:
    general = place({})
    assert general.name == "weighbridge-leases"
    assert general.parent.stat().st_mode & 0o1002 == 0o1002
    old = os.umask(0o077)
    try:
        named = place({"WEIGHBRIDGE_LEASES": str(tmp_path / "deep" / "leases")})
        lease, _ = ask(Pool(directory=named, gpus=(SMALL,), amounts={}), Want(gpus=1))
    finally:
        os.umask(old)
    assert named.stat().st_mode & 0o7777 == 0o1777
    assert {path.stat().st_mode & 0o777 for path in named.iterdir()} == {0o644}
    lease.release()


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfraError, match="leases cannot be kept: Not a directory") as caught:
        place({"WEIGHBRIDGE_LEASES": str(tmp_path / "file" / "leases")})
    assert caught.value.lasting
    assert "WEIGHBRIDGE_LEASES" in caught.value.hint
