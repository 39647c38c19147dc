"""Ends that nobody asked for: sessions and their helpers killed at any moment, and several sessions on one cache."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from busybox_image import make_base
from pocket_session import BASE, PocketSession, chain, session, sh, start

from pocket.store import Store, disk

CHAINS, LENGTH = 8, 25
OPERATIONS = CHAINS * LENGTH
TIER = "root" if os.geteuid() == 0 else "single-uid"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("image") / "base.tar")


def _step(c: int, n: int, extra: str) -> str:
    """Give one operation: mostly commands of every kind of effect, sometimes an edit without one."""
    match n % 5:
        case 0:
            return f'withNewFile(path:"/w/{c}/new{n}",contents:"{c} {n}")'
        case 1:
            return sh(f"mkdir -p /w/{c}/d{n} && echo {c} {n} > /w/{c}/d{n}/f{extra}")
        case 2:
            return sh(f"rm -rf /w/{c}/d{n - 6}; cp -r /etc /w/{c}/etc{n}{extra}")
        case 3:
            return sh(f"head -c 200000 /dev/zero | tr '\\0' {chr(97 + c)} > /w/{c}/big; chmod 600 /w/{c}/new*{extra}")
    return f'withoutFile(path:"/w/{c}/etc{n - 2}/group")' + "{" + sh(f"md5sum /w/{c}/*/f > /w/{c}/sums{extra}")


def graph(extra: str = "") -> str:
    """Give a query of eight chains of 25 operations each, side by side; `extra` is run by every command."""
    chains = []
    for number in range(CHAINS):
        steps = [f'withEnvVariable(name:"C",value:"{number}")', *(_step(number, n, extra) for n in range(LENGTH))]
        chains.append(f"c{number}:" + chain(BASE, *steps, 'directory(path:"/w"){digest}')[1:-1])
    return "{" + " ".join(chains) + "}"


def leaf(answer: Any) -> Any:
    """Follow an answer to its end."""
    while isinstance(answer, dict):
        (answer,) = answer.values()
    return answer


def digests(answer: dict[str, Any]) -> dict[str, str]:
    return {name: leaf(value) for name, value in answer.items()}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, image: Path) -> dict[str, str]:
    """Give the result of a run that nothing disturbed."""
    place = tmp_path_factory.mktemp("clean")
    with session(place / "cache", place / "log", image=image) as s:
        return digests(s.ok(graph()))


def records(cache: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(cache / "v1" / "actions"))


def helpers(pid: int) -> list[int]:
    """Give the processes below a session: its forkserver, and what runs in sandboxes."""
    try:
        children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [d for c in children for d in (c, *helpers(c))]


def ask_and_kill(s: PocketSession, cache: Path, chance: random.Random, *, most: int) -> str:
    """Ask for the graph, and kill the session or one of its helpers when a random number of operations is done, or a little later."""
    after, delay = records(cache) + chance.randint(1, most), chance.random() * 0.03
    asked: list[Any] = []

    def ask() -> None:
        with contextlib.suppress(OSError, AssertionError, ValueError):
            asked.append(s.query(graph()))

    asking = threading.Thread(target=ask)
    asking.start()
    ended = threading.Event()
    while records(cache) < after and asking.is_alive():
        ended.wait(0.005)
    ended.wait(delay)
    victims = helpers(s.process.pid)
    whom = chance.choice([s.process.pid, s.process.pid, *victims[:1], chance.choice(victims)] if victims else [s.process.pid])
    with contextlib.suppress(ProcessLookupError):
        os.kill(whom, signal.SIGKILL)
    if whom != s.process.pid:
        asking.join(300)
        assert not asking.is_alive(), "a session whose helper was killed must still answer"
    left = [fd for v in victims if (fd := _pidfd(v)) is not None]
    s.kill()
    asking.join(300)
    _all_end(left)
    return "session" if whom == s.process.pid else "forkserver" if whom == victims[0] else "sandbox"


def _pidfd(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.pidfd_open(pid)
    return None


def _all_end(fds: list[int]) -> None:
    for fd in fds:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(30_000), "a process outlives its session"
        os.close(fd)


def check(cache: Path) -> int:
    """Read every record of a cache and all that it names; give how many there are. Nothing may be damaged."""
    store = Store.open(cache, tier=TIER)
    seen: set[str] = set()
    try:
        for path in list(store.actions.all()):
            record = json.loads(path.read_bytes())
            assert store.actions.get(path.stem) == record, f"{path} names what is not there"
            for name in {i for ids in record.get("layers", {}).values() for i in ids} - seen:
                layer = store.layer(name)
                assert layer is not None
                _check_layer(str(layer.path), layer.rows())
                seen.add(name)
            for blob in [*record.get("blobs", ()), record.get("stdout"), record.get("stderr")]:
                assert not blob or store.blobs.verify(blob)
        store.collect()
        assert [p.name for p in (cache / "v1" / "tmp").iterdir()] == [store.session], "what the dead left is collected"
    finally:
        store.close()
    return records(cache)


def _check_layer(fs: str, rows: Any) -> None:
    known = {""}
    for path, entry in rows:
        known.add(path)
        if entry.kind == "f":
            assert disk.sha256_file(f"{fs}/{path}") == entry.target, path
        assert os.path.lexists(f"{fs}/{path}"), path
    for folder, names, files in os.walk(fs):
        for name in (*names, *files):
            assert os.path.relpath(f"{folder}/{name}", fs) in known, f"{folder}/{name} is not in the index"


def kill_many(place: Path, image: Path, clean: dict[str, str], *, kills: int, seed: int) -> Counter[str]:
    """Kill one run after another on one cache, checking it each time; at the end one run is let through."""
    chance, cache = random.Random(seed), place / "cache"
    print(f"seed {seed}")
    whom: Counter[str] = Counter()
    for number in range(kills):
        s = start(cache, place / "log", image=image)
        whom[ask_and_kill(s, cache, chance, most=max(3, OPERATIONS // kills))] += 1
        check(cache)
        if number % 40 == 39 or records(cache) > OPERATIONS:  # done too early: from the start again
            disk.remove_tree(cache)
    with session(cache, place / "log2", image=image) as s:
        assert digests(s.ok(graph())) == clean
    check(cache)
    return whom


def test_no_kill_corrupts_a_cache(tmp_path: Path, image: Path, clean: dict[str, str]) -> None:
    kill_many(tmp_path, image, clean, kills=6, seed=random.randrange(10**6))


@pytest.mark.nightly
def test_no_kill_of_a_hundred_corrupts_a_cache(tmp_path: Path, image: Path, clean: dict[str, str]) -> None:
    whom = kill_many(tmp_path, image, clean, kills=100, seed=random.randrange(10**6))
    print(dict(whom))
    assert set(whom) == {"session", "forkserver", "sandbox"}


def test_a_killed_command_is_an_error_and_never_a_record(tmp_path: Path, image: Path) -> None:
    with session(tmp_path / "cache", tmp_path / "log", image=image) as s:
        error: list[Any] = []
        text = chain(BASE, sh("echo up; sleep 300"), "stdout")
        asking = threading.Thread(target=lambda: error.append(s.error(text)))
        asking.start()
        pause = threading.Event()
        while not (inside := [p for p in helpers(s.process.pid) if b"sleep\x00300" in _cmdline(p)]):
            pause.wait(0.01)
        os.kill(inside[-1], signal.SIGKILL)
        asking.join()
        assert error[0]["extensions"]["exitCode"] == 137
        assert s.ok(chain(BASE, sh("echo on"), "stdout"), "container", "from", "withExec", "stdout") == "on\n"
    assert check(tmp_path / "cache") >= 1


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# --- several sessions, one cache
@contextlib.contextmanager
def sessions(number: int, place: Path, image: Path) -> Iterator[list[PocketSession]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(session(place / "cache", place / f"log{n}", image=image)) for n in range(number)]


def test_eight_processes_run_each_operation_once(tmp_path: Path, image: Path) -> None:
    """Every command adds a line to a volume that all share; what each session sees is what the one that ran it made."""
    volume = 'withMountedCache(path:"/log",cache:"%s")'
    steps = [sh(f"echo {n} >> /log/ran; cat /proc/sys/kernel/random/uuid > /u{n}; cat /u* | md5sum") for n in range(6)]
    with sessions(8, tmp_path, image) as all_of_them:

        def ask(s: PocketSession) -> Any:
            ident = s.ok('{cacheVolume(key:"log"){id}}', "cacheVolume", "id")
            return leaf(s.ok(chain(BASE, volume % ident, *steps, "stdout")))

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, all_of_them))
    assert len(set(answers)) == 1
    (ran,) = (tmp_path / "cache" / "v1" / "volumes").glob("*/fs/ran")
    assert ran.read_text().split() == [str(n) for n in range(6)]
    check(tmp_path / "cache")


def test_a_session_goes_on_with_what_a_killed_one_was_doing(tmp_path: Path, image: Path) -> None:
    """The second waits for the first to finish a command; the first is killed, and the second runs it."""
    first = start(tmp_path / "cache", tmp_path / "log1", image=image)
    script = "echo from $(cat /v/who 2>/dev/null); until [ -e /v/go ]; do sleep 0.05; done"
    text = chain(BASE, 'withMountedCache(path:"/v",cache:"%s")', sh(script), "stdout")
    asking = threading.Thread(target=_quietly, args=(first, text))
    with session(tmp_path / "cache", tmp_path / "log2", image=image) as second:
        asking.start()
        pause = threading.Event()
        while not any(b"sleep" in _cmdline(p) for p in helpers(first.process.pid)):
            pause.wait(0.01)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(second.ok, text % second.ok('{cacheVolume(key:"v"){id}}', "cacheVolume", "id"))
            pause.wait(0.2)
            assert not waiting.done()
            first.kill()
            asking.join()
            (volume,) = (tmp_path / "cache" / "v1" / "volumes").glob("*/fs")
            (volume / "go").touch()
            assert leaf(waiting.result(60)) == "from\n"


def _quietly(s: PocketSession, text: str) -> None:
    with contextlib.suppress(OSError, AssertionError, ValueError):
        s.ok(text % s.ok('{cacheVolume(key:"v"){id}}', "cacheVolume", "id"))
