"""Measure an engine through the Dagger SDK, beside what the same machine needs for the bare work in the same run.

    python benchmarks/engine.py BASE.tar [--chain 30] [--fan 30] [--files 10000] [--gigabyte] [--out results/NAME.json]

BASE.tar is an image archive with `sh` and `true` (the conformance base will do). The engine is the one that the SDK's environment
names. Prints one JSON object: seconds per item, medians where something is repeated, and the ratios to the yardsticks:
`fork` (a bare posix_spawn of `true`), `stat` (one walk over the files), `cp` and `sha256sum` (of the file that is exported).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio


def timed(call: Callable[[], object], repeat: int = 1) -> float:
    """Give the median time of a call in seconds."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def timed_async(call: Callable[[int], Awaitable[object]], repeat: int = 1) -> float:
    """Give the median time of an awaited call in seconds; the call gets its number."""
    times = []
    for number in range(repeat):
        began = time.perf_counter()
        await call(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def spawn_true() -> None:
    """Run `true` and wait for it."""
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


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


async def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run every measurement; gives name → seconds."""
    began = time.perf_counter()
    import dagger
    from dagger import dag

    found = {"import": time.perf_counter() - began, "fork": timed(spawn_true, 50)}
    began = time.perf_counter()
    async with dagger.connection(dagger.Config(log_output=sys.stderr)):
        await dag.version()
        found["connect"] = time.perf_counter() - began
        base = dag.container().import_(dag.host().file(str(Path(options.base).resolve())))
        await base.with_exec(["true"]).sync()
        found["request"] = await timed_async(lambda _: dag.version(), 50)
        salt = uuid.uuid4().hex
        found["exec"] = await timed_async(lambda n: base.with_env_variable("S", f"{salt}{n}").with_exec(["true"]).sync(), 10)
        found |= await _graphs(base, salt, options)
        found |= await _host_directory(dag, base, options.files)
        if options.gigabyte:
            found |= await _gigabyte(base, salt)
    return found


async def _graphs(base: Any, salt: str, options: argparse.Namespace) -> dict[str, float]:
    def chain() -> Any:
        container = base.with_env_variable("S", salt)
        for number in range(options.chain):
            container = container.with_exec(["sh", "-c", f"echo {number} >> /log"])
        return container.file("/log").size()

    async def one(number: int) -> None:
        container = base.with_env_variable("S", f"{salt}f{number}")
        await container.with_exec(["sh", "-c", f"echo {number} > /f"]).file("/f").contents()

    async def fan(_: int) -> None:
        async with anyio.create_task_group() as group:
            for number in range(options.fan):
                group.start_soon(one, number)

    return {
        "chain": await timed_async(lambda _: chain()) / options.chain,
        "chain_cached": await timed_async(lambda _: chain()) / options.chain,
        "fan": await timed_async(fan) / options.fan,
        "fan_cached": await timed_async(fan) / options.fan,
    }


async def _host_directory(dag: Any, base: Any, files: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tree(root, files)

        async def use(_: int) -> None:
            tree = dag.host().directory(folder, no_cache=True)
            await base.with_directory("/s", tree).with_exec(["sh", "-c", "ls /s | wc -l"]).stdout()

        found = {"stat": timed(lambda: walk(root), 3), "hostdir_first": await timed_async(use), "hostdir_same": await timed_async(use)}
        (root / "d0" / "f0").write_bytes(b"changed")
        return found | {"hostdir_one": await timed_async(use)}


async def _gigabyte(base: Any, salt: str) -> dict[str, float]:
    import dagger

    with tempfile.TemporaryDirectory() as folder:
        out, copy = Path(folder) / "image.tar", Path(folder) / "copy"
        made = base.with_env_variable("S", salt).with_exec(["sh", "-c", "head -c 1073741824 /dev/urandom > /big"])
        await made.sync()
        plain = dagger.ImageLayerCompression.Uncompressed
        export = await timed_async(lambda _: made.export(str(out), forced_compression=plain))
        found = {
            "export_1g": export,
            "sha256sum": timed(lambda: subprocess.run(["sha256sum", str(out)], check=True, stdout=subprocess.DEVNULL)),
        }
        return found | {"cp": timed(lambda: subprocess.run(["cp", str(out), str(copy)], check=True))}


def ratios(found: dict[str, float]) -> dict[str, float]:
    """Put the measurements in relation to the yardsticks of the same run."""
    pairs = [
        ("exec", "fork"),
        ("chain", "fork"),
        ("fan", "fork"),
        ("hostdir_first", "stat"),
        ("hostdir_same", "stat"),
        ("hostdir_one", "stat"),
    ]
    out = {f"{a}/{b}": found[a] / found[b] for a, b in pairs if a in found and b in found}
    if "export_1g" in found:
        out["export_1g/slower of sha256sum and cp"] = found["export_1g"] / max(found["sha256sum"], found["cp"])
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--chain", type=int, default=30)
    parser.add_argument("--fan", type=int, default=30)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--gigabyte", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = anyio.run(measure, options)
    machine = {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    sizes = {"chain": options.chain, "fan": options.fan, "files": options.files}
    result = {
        "machine": machine,
        "sizes": sizes,
        "seconds": {k: round(v, 5) for k, v in found.items()},
        "ratios": {k: round(v, 2) for k, v in ratios(found).items()},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
