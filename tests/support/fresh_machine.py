"""Another machine: namespaces of its own, with an empty disk for its cache and no network but a registry on its loopback.

As a program, inside those namespaces: start the registry, ask one session of pocket, print the answers and what the session said.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def ask_elsewhere(place: Path, registry: Path, image: Path, env: dict[str, str], texts: list[str]) -> tuple[list[Any], str]:
    """Ask GraphQL queries of one session on a fresh machine; give the answers and what the session wrote to its standard error.

    `registry` is the directory of a `real_registry`, which serves the same content there, on the same port.
    """
    place.mkdir()
    alone = ("unshare", "-mnpf", "--mount-proc") if os.geteuid() == 0 else ("unshare", "-Urmnpf", "--mount-proc")
    asked = json.dumps({"place": str(place), "registry": str(registry), "image": str(image), "env": env, "texts": texts})
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), str(root / "tests/support")])
    command = [*alone, sys.executable, __file__]
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}, timeout=600
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers, (place / "log").read_text()


def _main() -> None:
    from pocket_session import session
    from registries import await_port

    asked = json.load(sys.stdin)
    place, registry = Path(asked["place"]), Path(asked["registry"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    (place / "cache").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place / "cache")], check=True)
    port = int((registry / "config.yml").read_text().partition("addr: 127.0.0.1:")[2].split()[0])
    with (place / "registry-log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(registry / "config.yml")], stdout=log, stderr=log)
    try:
        await_port(port, server, place / "registry-log")
        with session(place / "cache", place / "log", image=Path(asked["image"]), env=asked["env"]) as running:
            answers = [running.query(text) for text in asked["texts"]]
    finally:
        server.kill()
        server.wait()
    print(json.dumps(answers))


if __name__ == "__main__":
    _main()
