"""Build a Dockerfile with pocket and with buildah in turn, from the same context on the same base.

    python benchmarks/dockerfile.py [--rounds 3] [--files 300] [--json FILE]

Two stages, twelve commands. `new`: everything after FROM has to run. `edited`: one file of the context changed. `unchanged`:
nothing has. pocket's time is that of a whole session, from starting the process to its end, buildah's that of `buildah build
--layers` with overlay storage and chroot isolation, its fastest; both leave layers in their caches and neither writes an
archive. The goal is a relation of at most 1. Needs root, and buildah (apt-get install buildah).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import anyio
from measuring import Times, engine_in, machine, make_base, options, quietly, tell

DOCKERFILE = """\
FROM localhost/base:latest AS build
ARG SALT
WORKDIR /src
COPY . .
RUN find . -type f -name '*.txt' | sort > /list && wc -l < /list
RUN while read f; do cat "$f"; done < /list > /src/all.out
RUN mkdir -p /out/lib && for i in $(seq 50); do cp /src/all.out /out/lib/part$i; done
RUN echo "$SALT" > /out/version && chmod 755 /out
RUN find /out -type f | wc -l > /out/count

FROM localhost/base:latest
ARG SALT
ENV APP=/app MODE=release
RUN echo "worker:x:2000:2000::/app:/bin/sh" >> /etc/passwd && echo "$SALT"
COPY --from=build --chown=2000:2000 /out /app
RUN ls -l /app/lib > /var/listing
RUN chmod -R go-w /app && touch /app/ready
USER worker
WORKDIR /app
RUN head -n 1 lib/part1 > /tmp/first
CMD ["cat", "/app/version"]
"""


def make_context(root: Path, files: int) -> None:
    """Write the Dockerfile and `files` small files in ten directories."""
    root.mkdir()
    (root / "Dockerfile").write_text(DOCKERFILE)
    for number in range(files):
        folder = root / f"part{number % 10}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}.txt").write_text(f"line {number}\n" * 20)


class Buildah:
    """buildah with a storage of its own that holds the base."""

    def __init__(self, home: Path, base: Path) -> None:
        home.mkdir()
        self._policy = home / "policy.json"
        self._policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self._program = ["buildah", "--storage-driver", "overlay", "--root", str(home / "root"), "--runroot", str(home / "run")]
        quietly(*self._program, "pull", "--signature-policy", self._policy, f"oci-archive:{base}:localhost/base:latest")

    def build(self, context: Path, salt: str) -> None:
        """Build the context."""
        how = ["--layers", "--isolation=chroot", "--network=host", "--pull-never", "--signature-policy", str(self._policy)]
        quietly(*self._program, "build", *how, f"--build-arg=SALT={salt}", "-t", "localhost/out:latest", context)


async def build(context: Path, salt: str) -> None:
    """Build the context with pocket, in a session for it alone."""
    import dagger
    from dagger import dag

    async with dagger.connection(dagger.Config(log_output=sys.stderr)):
        tree = dag.host().directory(str(context))
        await tree.docker_build(build_args=[dagger.BuildArg("SALT", salt)]).sync()


async def measure(home: Path, asked: argparse.Namespace) -> Times:
    """Build in turn."""
    import dagger  # noqa: F401 - so that neither side pays for it

    times, context = Times(), home / "context"
    base = make_base(home / "base.tar", name="localhost/base:latest")
    os.environ["POCKET_IMAGE_ARCHIVES"] = f"localhost/base:latest={base}"
    make_context(context, asked.files)
    buildah = Buildah(home / "buildah", base)
    await build(context, "first")  # both have the base now
    buildah.build(context, "first")
    for _ in range(asked.rounds):
        salt = uuid.uuid4().hex
        for name in ("new", "unchanged", "edited"):
            if name == "edited":
                (context / "part0" / "f0.txt").write_text(salt)
            await times.wait(f"pocket {name}", lambda salt=salt: build(context, salt))
            times.call(f"buildah {name}", lambda salt=salt: buildah.build(context, salt))
    return times


def unmount_below(home: Path) -> None:
    """Take away what buildah left mounted."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((p for p in points if p.startswith(f"{home}/")), reverse=True):
        quietly("umount", point)


def relations(times: Times) -> dict[str, Any]:
    """Compare pocket with buildah, best with best."""
    found = {n: round(times.best(f"pocket {n}") / times.best(f"buildah {n}"), 2) for n in ("new", "unchanged", "edited")}
    return {"goal": 1.0, "relation": found, "met": {name: r <= 1 for name, r in found.items()}}


def main() -> None:
    """Measure and print."""
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=300)
    asked = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("buildah") is None:
        raise SystemExit("this needs root and buildah (apt-get install buildah)")
    with tempfile.TemporaryDirectory(dir=asked.scratch, prefix="dockerfile-") as folder:
        home = Path(folder)
        os.environ["POCKET_CACHE"] = str(home / "cache")
        engine_in(home)
        try:
            times = anyio.run(measure, home, asked)
        finally:
            unmount_below(home)
    tell({"machine": machine(), "seconds": times.to_json(), **relations(times)}, asked.json)


if __name__ == "__main__":
    main()
