"""Measure an engine through the Dagger SDK: connecting, requests, commands, chains, fan-outs, directories of the host.

    python benchmarks/engine.py [--chain 30] [--fan 30] [--files 10000] [--rounds 3] [--json FILE]

The engine is the one that the SDK's environment names, else this checkout's pocket with a cache of its own. Every round is a
process and a session of its own with an empty cache; between rounds nothing is deleted, because some file systems look for free
inodes the longer, the more were given back lately. Beside each round the yardsticks are measured: `import` of the SDK, `fork` (a
bare posix_spawn of `true`), `container` (fork, namespaces, overlay and `true`, with nothing of pocket), `stat` (one walk over the
files), `loop` (a million additions in Python). `memory` is the proportional set size of the engine's processes after everything, `peak`
while it worked, in MB. `… sdk` is the processor time of this process, which is the SDK's own share of a measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import anyio
from measuring import Times, engine_in, machine, make_base, options, spawn_true, tell


def make_tree(root: Path, files: int) -> None:
    """Write `files` files in 100 directories: one in ten 20 kB, the others a few bytes."""
    for number in range(files):
        folder = root / f"d{number % 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(os.urandom(20_000) if number % 10 == 0 else b"%d" % number)


def walk(root: Path) -> None:
    """Stat every file once."""
    stack = [str(root)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)


def loop() -> None:
    """Add a million times: how fast this processor runs Python just now."""
    total = 0
    for number in range(1_000_000):
        total += number


def bare_container(home: Path) -> None:
    """Run `true` in fresh namespaces on an overlay, by util-linux: the least that a command in a container costs."""
    for name in ("lower", "upper", "work", "root"):
        (home / name).mkdir(parents=True, exist_ok=True)
    mount = f"mount -t overlay o -o lowerdir={home}/lower,upperdir={home}/upper,workdir={home}/work {home}/root; exec true"
    command = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "sh", "-c", mount]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Memory(threading.Thread):
    """Watches what the engine's processes take; they are the descendants of this one."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = self.now = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        """Look twice a second."""
        while not self._over.wait(0.5):
            self.now = _descendants_mb()
            self.peak = max(self.peak, self.now)

    def end(self) -> None:
        """Look a last time."""
        self._over.set()
        self.join()
        self.now = _descendants_mb()


def _descendants_mb() -> float:
    total, todo = 0, _children(os.getpid())
    while todo:
        pid = todo.pop()
        todo += _children(pid)
        with contextlib.suppress(OSError, StopIteration, ValueError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            total += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return total / 1024


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    return []


async def measure(asked: argparse.Namespace, home: Path) -> Times:
    """Run one round."""
    times = Times()
    began = time.perf_counter()
    import dagger
    from dagger import dag

    times.add("import", time.perf_counter() - began)
    for _ in range(5):
        times.call("fork", spawn_true)
        times.call("loop", loop)
        times.call("container", lambda: bare_container(home / "bare"))
    memory = Memory()
    base_file = make_base(home / "base.tar")
    began, own = time.perf_counter(), time.process_time()
    async with dagger.connection(dagger.Config(log_output=sys.stderr)):
        await dag.version()
        times.add("connect", time.perf_counter() - began)
        times.add("connect sdk", time.process_time() - own)
        memory.start()
        base = dag.container().import_(dag.host().file(str(base_file)))
        await times.wait("first exec", lambda: base.with_exec(["true"]).sync())
        own = time.process_time()
        for _ in range(20):
            await times.wait("request", dag.version)
        times.add("request sdk", (time.process_time() - own) / 20)
        salt, own = uuid.uuid4().hex, time.process_time()
        for number in range(10):
            await times.wait("exec", lambda n=number: base.with_env_variable("S", f"{salt}{n}").with_exec(["true"]).sync())
        times.add("exec sdk", (time.process_time() - own) / 10)
        await _graphs(times, base, salt, asked)
        await _host_directory(times, dag, base, home / "files", asked.files)
        memory.end()
        began = time.perf_counter()
    times.add("close", time.perf_counter() - began)
    times.add("memory", memory.now)
    times.add("peak", memory.peak)
    return times


async def _graphs(times: Times, base: Any, salt: str, asked: argparse.Namespace) -> None:
    def chain() -> Any:
        container = base.with_env_variable("S", salt)
        for number in range(asked.chain):
            container = container.with_exec(["sh", "-c", f"echo {number} >> /log"])
        return container.file("/log").size()

    async def one(number: int) -> None:
        container = base.with_env_variable("S", f"{salt}f{number}")
        await container.with_exec(["sh", "-c", f"echo {number} > /f"]).file("/f").contents()

    async def fan() -> None:
        async with anyio.create_task_group() as group:
            for number in range(asked.fan):
                group.start_soon(one, number)

    for name, call, count in (("chain", chain, asked.chain), ("fan", fan, asked.fan)):
        for form in (name, f"{name} cached"):
            began, own = time.perf_counter(), time.process_time()
            await call()
            times.add(form, (time.perf_counter() - began) / count)
            times.add(f"{form} sdk", (time.process_time() - own) / count)


async def _host_directory(times: Times, dag: Any, base: Any, root: Path, files: int) -> None:
    root.mkdir()
    make_tree(root, files)

    async def use() -> None:
        tree = dag.host().directory(str(root), no_cache=True)
        await base.with_directory("/s", tree).with_exec(["sh", "-c", "ls /s | wc -l"]).stdout()

    times.call("stat", lambda: walk(root))
    await times.wait("directory first", use)
    await times.wait("directory unchanged", use)
    (root / "d0" / "f0").write_bytes(b"changed")
    await times.wait("directory one changed", use)


def one_round(asked: argparse.Namespace, home: Path) -> None:
    """Measure once, in this process; write the times to `home`."""
    engine_in(home)
    times = anyio.run(measure, asked, home)
    (home / "times.json").write_text(json.dumps({name: s.times for name, s in times.series.items()}))


def main() -> None:
    """Measure in one process per round, and print."""
    parser = options(__doc__)
    for name, default in (("chain", 30), ("fan", 30), ("files", 10_000), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--round-in", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.round_in is not None:
        one_round(asked, asked.round_in)
        return
    scratch, times = Path(tempfile.mkdtemp(prefix="engine-", dir=asked.scratch)), Times()
    try:
        for number in range(asked.rounds):
            home = scratch / str(number)
            home.mkdir()
            sizes = [f"--{name}={getattr(asked, name)}" for name in ("chain", "fan", "files")]
            environment = {**os.environ, "POCKET_CACHE": str(home / "cache")}
            subprocess.run([sys.executable, __file__, *sizes, f"--round-in={home}"], check=True, env=environment)
            for name, found in json.loads((home / "times.json").read_text()).items():
                for seconds in found:
                    times.add(name, seconds)
    finally:
        if asked.scratch is None:
            shutil.rmtree(scratch, ignore_errors=True)
    sizes_used = {"chain": asked.chain, "fan": asked.fan, "files": asked.files}
    tell({"machine": machine(), "sizes": sizes_used, "seconds": times.to_json()}, asked.json)


if __name__ == "__main__":
    main()
