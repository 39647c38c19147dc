"""Start an unpacked image without any container engine, and ask what runs in it; prints the answers as JSON.

    unshare --user --map-root-user --net --pid --fork --kill-child python3 image_probe.py ROOTFS CONFIG REQUESTS

CONFIG is the image's configuration (JSON), REQUESTS a JSON list of {"path", "body"}, sent in order once `/health` answers; where `body`
is null it is a GET. Standard library only, so that any Python can run it. The network namespace is the caller's, its loopback down.
"""

import fcntl
import http.client
import json
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, NoReturn

SIOCSIFFLAGS = 0x8914
IFF_UP = 1
PATIENCE = 300  # tries, a tenth of a second apart


def _loopback_up() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def _become(root: str, config: dict[str, Any]) -> NoReturn:
    os.chroot(root)
    os.chdir(config.get("WorkingDir") or "/")
    argv = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    environment = dict(item.split("=", 1) for item in config.get("Env") or [])
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.execvpe(argv[0], argv, environment)


def _ask(port: int, path: str, body: object) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    payload = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, body=payload, headers={"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, text


def _healthy(port: int, child: int) -> bool:
    for _ in range(PATIENCE):
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        try:
            if _ask(port, "/health", None)[0] == 200:
                return True
        except OSError:
            select.select([], [], [], 0.1)
    return False


def main() -> int:
    root, config, requests = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), json.loads(Path(sys.argv[3]).read_text())
    _loopback_up()
    port = int(next(iter(config["ExposedPorts"])).split("/")[0])
    child = os.fork()
    if child == 0:
        _become(root, config)
    if not _healthy(port, child):
        print("the image's entrypoint did not become healthy", file=sys.stderr)
        return 1
    print(json.dumps([_ask(port, request["path"], request["body"]) for request in requests]))
    os.kill(child, signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
