"""However a session ends, nothing of it stays: no process, no mount, no namespace."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_box import Box, Inside, tiers, why_not


@pytest.fixture(params=tiers())
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    box = Box(request.param)
    yield box
    box.close()


def ended(pidfd: int) -> bool:
    """Wait for the end of a process that is not our child."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(20_000))


@pytest.mark.parametrize("no_init", [False, True])
def test_a_killed_session_leaves_nothing(box: Box, no_init: bool) -> None:
    async def body(b: Inside, no_init: bool) -> tuple[int, int]:
        script = "trap '' TERM HUP; setsid sleep 300 & echo up; sleep 300"
        process, _ = await b.until(b.spec("sh", "-c", script, no_init=no_init, netns="none"), b"up")
        return process.pid, b.zygote.pid

    pids = box.do(body, no_init)
    inside = _descendants(pids[0])
    pidfds = [os.pidfd_open(pid) for pid in {*pids, *inside}]
    assert len(pidfds) >= 3
    box.kill()
    assert all(ended(fd) for fd in pidfds)
    assert str(box.tmp) not in Path("/proc/self/mountinfo").read_text()
    for fd in pidfds:
        os.close(fd)


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(c) for c in children] + [d for c in children for d in _descendants(int(c))]


def test_a_killed_forkserver_takes_its_containers_along_and_is_missed(box: Box) -> None:
    async def body(b: Inside) -> tuple[int, str]:
        process, _ = await b.until(b.spec("sh", "-c", "echo up; sleep 300"), b"up")
        os.kill(b.zygote.pid, 9)
        outcome = await process.wait()
        try:
            await b.run("true")
        except b.error as error:
            return outcome.exit_code, str(error)
        return outcome.exit_code, ""

    code, message = box.do(body)
    assert code == 137
    assert "the forkserver is gone" in message


def test_a_first_process_that_is_killed_from_outside(box: Box) -> None:
    async def body(b: Inside) -> int:
        process, _ = await b.until(b.spec("sh", "-c", "echo up; sleep 300"), b"up")
        os.kill(process.pid, 9)
        return (await process.wait()).exit_code

    assert box.do(body) == 137


def test_descriptors_do_not_pile_up(box: Box) -> None:
    async def body(b: Inside) -> list[int]:
        counts = []
        for _ in range(12):
            await asyncio.gather(*(b.run("true") for _ in range(5)))
            counts.append(sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in ("self", b.zygote.pid)))
        return counts

    # A spare that is being made holds some for a moment; what piles up would be in every count that follows.
    counts = box.do(body)
    assert min(counts[6:]) <= max(counts[:6])


def test_the_session_keeps_its_own_mounts(box: Box) -> None:
    async def body(b: Inside) -> list[str]:
        namespaces = [Path(f"/proc/{pid}/ns/mnt").readlink() for pid in ("self", b.zygote.pid)]
        return [*map(str, namespaces), str(Path("/sys/kernel").exists())]

    own, zygotes, visible = box.do(body)
    assert own == str(Path("/proc/self/ns/mnt").readlink()) != zygotes
    assert visible == "True"


def test_an_interrupt_from_the_terminal_is_not_the_containers_business(box: Box) -> None:
    async def body(b: Inside) -> list[int]:
        return [os.getsid(b.zygote.pid), b.zygote.pid]

    assert len(set(box.do(body))) == 1


def test_a_spare_that_was_killed_is_replaced(box: Box) -> None:
    async def body(b: Inside) -> list[int]:
        await b.run("true")
        children = Path(f"/proc/{b.zygote.pid}/task/{b.zygote.pid}/children")
        async with asyncio.timeout(20):
            while not (spares := children.read_text().split()):  # noqa: ASYNC110 - nothing tells when it is made
                await asyncio.sleep(0.001)
        return [int(pid) for pid in spares]

    async def use(b: Inside) -> list[str]:
        return [(await b.sh(f"echo {n}")).out for n in range(3)]

    for pid in box.do(body):  # the container before may still be ending
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert ended(pidfd)
        os.close(pidfd)
    assert box.do(use) == ["0\n", "1\n", "2\n"]


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding a part of /proc needs root")
def test_a_machine_that_hides_a_part_of_proc_is_worked_with_and_said_to_be() -> None:
    if reason := why_not("single-uid"):
        pytest.skip(reason)
    # What an outer container engine does; the kernel then refuses a fresh /proc to whoever enters a user namespace.
    box = Box("single-uid", "unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc/acpi && exec "$@"', "sh")
    try:
        done = box.sh("[ -d /proc/self ] && echo own; ls /proc/1/root/ >/dev/null 2>&1 || echo refused", user="app")
        assert done.outcome.notes == ("this machine allows no fresh /proc: the host's is shown, with the host's processes",)
        assert done.out == "own\nrefused\n"
        # Owners are recorded all the same, though processes have other numbers in that /proc.
        done = box.sh("mkdir /tmp/d; cd /tmp/d; echo > f; chown 3:4 f ../d; (cd ..; chown 5:6 d/f); chown 7 none")
        assert sorted((uid, gid) for _, _, _, uid, gid, _ in done.outcome.owners) == [(3, 4), (5, 6)]
        assert done.err == "chown: none: No such file or directory\n"
    finally:
        box.close()
