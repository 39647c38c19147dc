"""What all benchmarks share: the engine to measure, a base image, the yardsticks of the same run, the form of results.

A time means little on its own: machines differ, and other work runs beside. Every program therefore measures, in the same run and
in turn with the engine, what the machine needs for the bare work, and reports the relation to that beside the seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_APPLETS = "sh ls cat echo env true false mkdir rm cp mv ln chmod chown head tail wc sort find sed grep touch dd seq sleep test"
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
_GROUP = b"root:x:0:\napp:x:1000:\n"


@dataclass(slots=True)
class Series:
    """The times of one measurement in seconds, one per repetition."""

    times: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The fastest: what other work on the machine disturbed least."""
        return min(self.times)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.times)

    def to_json(self) -> dict[str, float]:
        """Give best and median."""
        return {"best": round(self.best, 5), "median": round(self.median, 5), "runs": len(self.times)}


class Times:
    """Measurements by name, in the order in which they were first made."""

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}

    def add(self, name: str, seconds: float) -> float:
        """Note one time."""
        self.series.setdefault(name, Series()).times.append(seconds)
        return seconds

    def call(self, name: str, call: Callable[[], object]) -> float:
        """Time one call."""
        began = time.perf_counter()
        call()
        return self.add(name, time.perf_counter() - began)

    async def wait(self, name: str, call: Callable[[], Awaitable[object]]) -> float:
        """Time one awaited call."""
        began = time.perf_counter()
        await call()
        return self.add(name, time.perf_counter() - began)

    def best(self, name: str) -> float:
        """Give the fastest run of a measurement."""
        return self.series[name].best

    def to_json(self) -> dict[str, dict[str, float]]:
        """Give everything, in seconds."""
        return {name: s.to_json() for name, s in self.series.items()}


def spawn_true() -> None:
    """Run `true` of this machine and wait for it: the least that a process costs."""
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


def machine() -> dict[str, Any]:
    """Say where and under which load this was measured."""
    with Path("/proc/meminfo").open(encoding="ascii") as f:
        memory = int(f.readline().split()[1]) // 1024
    return {
        "cores": os.cpu_count(),
        "memory_mb": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(x, 1) for x in os.getloadavg()],
        "as": "root" if os.geteuid() == 0 else "an ordinary user",
        "tier": os.environ.get("POCKET_TIER", "the best"),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def engine_in(home: Path) -> None:
    """Have the SDK start this checkout's pocket, with a cache in `home`, unless the environment names an engine."""
    os.environ.setdefault("POCKET_CACHE", str(home / "cache"))
    if "_EXPERIMENTAL_DAGGER_CLI_BIN" in os.environ:
        return
    launcher = home / "pocket"
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pocket.cli import main; sys.exit(main())"
    launcher.write_text(f"#!{sys.executable} -P\n{start}\n")
    launcher.chmod(0o755)
    os.environ["_EXPERIMENTAL_DAGGER_CLI_BIN"] = str(launcher)


def make_base(path: Path, *, name: str = "") -> Path:
    """Write an image of one megabyte, busybox and two users, as an OCI archive, perhaps with a name; gives the path.

    Raises:
        SystemExit: there is no busybox without libraries on this machine.
    """
    program = os.environ.get("WEIGHBRIDGE_BUSYBOX") or shutil.which("busybox") or ""
    if not program or b"ld-linux" in Path(program).read_bytes()[:4096]:
        raise SystemExit("no busybox without libraries here: apt-get install busybox-static, or set WEIGHBRIDGE_BUSYBOX")
    layer = _tar(_base_files(Path(program).read_bytes()))
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()), "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]}, "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": "base"}],
    }).encode()  # fmt: skip
    kind = "application/vnd.oci.image."
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "config": _described(kind + "config.v1+json", config),
        "layers": [_described(kind + "layer.v1.tar", layer)],
    }).encode()  # fmt: skip
    named = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
    index = json.dumps({"schemaVersion": 2, "manifests": [_described(kind + "manifest.v1+json", manifest) | named]}).encode()
    blobs = [(f"blobs/sha256/{_digest(b)[7:]}", b, 0o644, "") for b in (layer, config, manifest)]
    path.write_bytes(_tar([*blobs, ("index.json", index, 0o644, ""), ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644, "")]))
    return path


def _base_files(busybox: bytes) -> list[tuple[str, bytes | None, int, str]]:
    folders: list[tuple[str, bytes | None, int, str]] = [(n, None, 0o755, "") for n in ("bin", "etc", "root", "home", "usr", "var")]
    links: list[tuple[str, bytes | None, int, str]] = [(f"bin/{name}", None, 0o777, "busybox") for name in _APPLETS.split()]
    files: list[tuple[str, bytes | None, int, str]] = [
        ("bin/busybox", busybox, 0o755, ""),
        ("etc/passwd", _PASSWD, 0o644, ""),
        ("etc/group", _GROUP, 0o644, ""),
    ]
    return [*folders, ("tmp", None, 0o1777, ""), *files, *links]


def _tar(members: Iterable[tuple[str, bytes | None, int, str]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data, mode, link in members:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            elif data is None:
                info.type = tarfile.DIRTYPE
            info.size = len(data or b"")
            tar.addfile(info, io.BytesIO(data or b""))
    return out.getvalue()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _described(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def fill(page: Path, begin: str, end: str, text: str) -> None:
    """Put text between two markers of a page.

    Raises:
        SystemExit: the page has not both.
    """
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    if not rest or end not in rest:
        raise SystemExit(f"{page} has not the markers {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}{end}{after}")


def quietly(*command: str | Path) -> None:
    """Run a program, its output thrown away.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(
        [str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout.decode(errors='replace')[-2000:]}")


def options(description: str | None) -> argparse.ArgumentParser:
    """Give a parser with the options that all programs have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--scratch", type=Path, default=None, help="a directory for caches and files (default: a temporary one)")
    return parser


def tell(result: dict[str, Any], where: Path | None) -> None:
    """Print a result, and write it where it was asked for."""
    text = json.dumps(result, indent=1)
    print(text)
    if where is not None:
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text + "\n")
