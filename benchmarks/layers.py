"""Measure the export and the publishing of a layer of one gigabyte that cannot be compressed, beside sha256sum and cp of the same bytes.

    python benchmarks/layers.py [--megabytes 1024] [--rounds 2] [--json FILE]

`by default` is what a program gets that asks for no compression: none, for such a layer. Each of the measured calls gets a layer of
its own, which was committed before the clock starts; the registry is Debian's docker-registry on loopback, with its files in the
same directory. sha256sum and cp follow each export and get the bytes exported.
`limit` is the slower of the two; the goal is 80 % of its speed, so a relation of at most 1.25.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
from measuring import Times, engine_in, machine, make_base, options, quietly, tell

GOAL = 1.25


@contextlib.contextmanager
def registry(home: Path) -> Iterator[str]:
    """Run docker-registry on loopback; gives `host:port`, or "" when it is not installed."""
    program = shutil.which("docker-registry")
    if program is None:
        print("docker-registry is not installed (apt-get install docker-registry): publishing is not measured", file=sys.stderr)
        yield ""
        return
    home.mkdir()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    config = home / "config.yml"
    storage = f"storage: {{filesystem: {{rootdirectory: {home}/data}}}}"
    config.write_text(f"version: 0.1\nlog: {{level: error}}\n{storage}\nhttp: {{addr: 127.0.0.1:{port}}}\n")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def measure(home: Path, asked: argparse.Namespace) -> Times:
    """Export and publish, in the form that pocket chooses and in gzip."""
    import dagger
    from dagger import dag

    times = Times()
    gzip = dagger.ImageLayerCompression.Gzip
    with registry(home / "registry") as host:
        async with dagger.connection(dagger.Config(log_output=sys.stderr)):
            base = dag.container().import_(dag.host().file(str(make_base(home / "base.tar"))))

            async def made() -> Any:
                command = f"head -c {asked.megabytes << 20} /dev/urandom > /weights"
                layer = base.with_env_variable("ROUND", uuid.uuid4().hex).with_exec(["sh", "-c", command])
                return await layer.sync()

            out, copy = home / "image.tar", home / "copy"
            for _ in range(asked.rounds):
                for name, form in (("by default", None), ("in gzip", gzip)):
                    layer = await made()
                    await times.wait(f"export {name}", lambda layer=layer, form=form: layer.export(str(out), forced_compression=form))
                    times.call("sha256sum", lambda: quietly("sha256sum", out))
                    times.call("cp", lambda: quietly("cp", out, copy))
                    out.unlink()
                    copy.unlink()
                    if host:
                        layer, where = await made(), f"{host}/bench:{uuid.uuid4().hex[:8]}"
                        await times.wait(
                            f"publish {name}", lambda layer=layer, form=form, where=where: layer.publish(where, forced_compression=form)
                        )
    return times


def relations(times: Times) -> dict[str, Any]:
    """Compare the best runs with the slower of the best sha256sum and the best cp."""
    limit = max(times.best("sha256sum"), times.best("cp"))
    found = {name: round(times.best(name) / limit, 2) for name in times.series if name not in ("sha256sum", "cp")}
    return {"limit": round(limit, 3), "goal": GOAL, "relation": found, "met": {name: r <= GOAL for name, r in found.items()}}


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.scratch, prefix="layers-") as folder:
        home = Path(folder)
        os.environ["POCKET_CACHE"] = str(home / "cache")
        engine_in(home)
        times = anyio.run(measure, home, asked)
    tell({"machine": machine(), "megabytes": asked.megabytes, "seconds": times.to_json(), **relations(times)}, asked.json)


if __name__ == "__main__":
    main()
