"""Containers for tests: a session process of its own for each tier, and test bodies that run inside it.

A user namespace can only be entered, and the forkserver only forked, by a process with one thread; a test process has several. So a
`Box` starts this file as a program, in the tier asked for, and sends it the source of a test's inner function; that function gets an
`Inside`, and its (picklable) result comes back. The containers' root is a busybox tree as in the conformance cases.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from pocket.network import RunNetwork
    from pocket.sandbox import ExecSpec, Mount, Outcome, Process, Tier, Zygote

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
BUSYBOX = "/bin/busybox"
APPLETS = [
    "sh", "ls", "cat", "echo", "env", "printf", "true", "false", "id", "stat", "mkdir", "rm", "cp", "mv", "ln", "test", "sleep",
    "touch", "chmod", "chown", "head", "tail", "grep", "awk", "wc", "sort", "readlink", "hostname", "pwd", "df", "mount", "umount",
    "nc", "wget", "httpd", "kill", "ps", "seq", "ip", "setsid", "dd", "od", "cut", "tr", "mknod", "[",
]  # fmt: skip
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1000:\nstaff:x:50:app\n"


def tiers() -> list[str]:
    """Name the tiers that this machine can be put into; "nobody" is the single-uid tier of an ordinary user."""
    if os.geteuid() == 0:
        return ["root", "subuid", "single-uid", "nobody"]
    return ["own"]


def make_base(base: Path) -> None:
    """Make the root that containers start from."""
    for name in ["bin", "etc", "root", "home/app", "usr/bin", "var", "dev", "proc", "sys"]:
        (base / name).mkdir(parents=True)
    (base / "tmp").mkdir()
    (base / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, base / "bin/busybox")
    for applet in APPLETS:
        (base / "bin" / applet).symlink_to("busybox")
    (base / "etc/passwd").write_text(PASSWD)
    (base / "etc/group").write_text(GROUP)
    if os.geteuid() == 0:
        os.chown(base / "home/app", 1000, 1000)


@dataclass(frozen=True)
class Result:
    """What one command did."""

    outcome: Outcome
    out: str
    err: str
    upper: Path

    @property
    def code(self) -> int:
        return self.outcome.exit_code


class Inside:
    """What a test body gets: the session's forkserver, fresh directories, and shortcuts."""

    def __init__(self, zygote: Zygote, tier: Tier, tmp: Path) -> None:
        self.zygote, self.tier, self.tmp = zygote, tier, tmp
        self.base = tmp / "base"
        self._count = 0
        self._network: RunNetwork | None = None

    async def network(self) -> RunNetwork:
        """Give the session's network."""
        from pocket.network import RunNetwork

        if self._network is None:
            self._network = await RunNetwork.start(self.zygote)
        return self._network

    async def answers(self, net: RunNetwork, ip: str, port: int, *, keep: bool = False) -> socket.socket:
        """Wait until a service accepts connections; the connection is closed unless it is to be kept."""
        async with asyncio.timeout(20):
            while True:
                try:
                    connection = await net.connect(ip, port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
                    continue
                if not keep:
                    connection.close()
                return connection

    @property
    def error(self) -> type[Exception]:
        """Give the class of the sandbox's errors."""
        from pocket.sandbox import SandboxError

        return SandboxError

    def mount(self, **fields: Any) -> Mount:
        """Make a `Mount`."""
        from pocket.sandbox import Mount

        return Mount(**fields)

    def fresh(self, name: str = "d") -> Path:
        self._count += 1
        path = self.tmp / f"{name}{self._count}"
        path.mkdir()
        return path

    def spec(self, *argv: str, **fields: Any) -> ExecSpec:
        from pocket.sandbox import ExecSpec

        given = {"lowers": (str(self.base),), "upper": str(self.fresh("upper")), "work": str(self.fresh("work")), **fields}
        return ExecSpec(argv=argv, **given)

    async def start(self, spec: ExecSpec) -> tuple[Process, Awaitable[tuple[bytes, bytes]]]:
        """Start a container; the second value gives its whole stdout and stderr at the end."""
        pipes = os.pipe(), os.pipe()
        try:
            process = await self.zygote.spawn(spec, stdout=pipes[0][1], stderr=pipes[1][1])
        finally:
            for _, write in pipes:
                os.close(write)
        return process, asyncio.ensure_future(_both(pipes[0][0], pipes[1][0]))

    async def until(self, spec: ExecSpec, word: bytes) -> tuple[Process, int]:
        """Start a container and wait until it has written `word`; the rest of its output can be read from the descriptor."""
        read, write = os.pipe()
        try:
            process = await self.zygote.spawn(spec, stdout=write, stderr=write)
        finally:
            os.close(write)
        seen = b""
        while word not in seen and (data := await asyncio.to_thread(os.read, read, 4096)):
            seen += data
        assert word in seen, seen
        return process, read

    async def run(self, *argv: str, **fields: Any) -> Result:
        spec = self.spec(*argv, **fields)
        process, output = await self.start(spec)
        outcome = await process.wait()
        out, err = await output
        process.fill_redirects(stdout=out, stderr=err)
        return Result(outcome, out.decode(errors="replace"), err.decode(errors="replace"), Path(spec.upper))

    async def sh(self, script: str, **fields: Any) -> Result:
        return await self.run("sh", "-c", script, **fields)


async def _both(out: int, err: int) -> tuple[bytes, bytes]:
    first, second = await asyncio.gather(asyncio.to_thread(_drain, out), asyncio.to_thread(_drain, err))
    return first, second


def _drain(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


class Box:
    """A session process in one tier, seen from the test."""

    def __init__(self, tier: str, *prefix: str) -> None:
        """Start it; `prefix` is a command that starts the session process in surroundings of its own."""
        self.name = tier
        python, user = _python(tier)
        self.tmp = Path(tempfile.mkdtemp(prefix="box-"))
        if user is not None:
            shutil.chown(self.tmp, user)
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.tmp), "PYTHONUNBUFFERED": "1"}
        env |= {k: v for k, v in os.environ.items() if k.startswith("COV")}
        if tier in ("root", "subuid", "single-uid"):
            env["POCKET_TIER"] = tier
        self._process = subprocess.Popen(
            [*prefix, python, str(Path(__file__).resolve()), str(self.tmp)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=env, user=user, group=None if user is None else "nogroup", extra_groups=None if user is None else [], cwd=self.tmp,
        )  # fmt: skip
        self.pid = self._process.pid

    def do(self, body: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run an inner function of the test in the session as `body(inside, *args)`; it must need nothing from around it."""
        return cast("T", self._ask(("do", textwrap.dedent(inspect.getsource(body)), body.__name__, args)))

    def run(self, *argv: str, **fields: Any) -> Result:
        """Run one command with `ExecSpec` fields."""
        return cast("Result", self._ask(("run", argv, fields)))

    def sh(self, script: str, **fields: Any) -> Result:
        """Run one shell script."""
        return self.run("sh", "-c", script, **fields)

    def kill(self) -> None:
        """Kill the session process the hard way."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(30)
        finally:
            self.kill()
            self._process.stdout.close()
        _remove(self.tmp)

    def _ask(self, request: object) -> object:
        assert self._process.stdin
        assert self._process.stdout
        _write(self._process.stdin, request)
        kind, value = cast("tuple[str, Any]", _read(self._process.stdout))
        if kind == "raised":
            error, text = value
            error.add_note(text)
            raise error
        return value


def _python(tier: str) -> tuple[str, str | None]:
    if tier != "nobody":
        return sys.executable, None
    # The test run's own interpreter may lie in a home that nobody cannot enter.
    return shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "nobody"


def why_not(tier: str) -> str:
    """Say why containers of a tier cannot be tested here, or ""."""
    if not Path(BUSYBOX).exists():
        return "no busybox: install the package busybox-static"
    if tier != "nobody":
        return ""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pocket.sandbox; sys.exit(sys.version_info < (3, 11))"
    python, user = _python(tier)
    done = subprocess.run(
        [python, "-c", code, str(ROOT)], user=user, group="nogroup", extra_groups=[], cwd="/", capture_output=True, check=False
    )
    return "" if done.returncode == 0 else f"user nobody has no Python ≥ 3.11, or cannot read this checkout ({python})"


def _remove(path: Path) -> None:
    for directory, names, _ in os.walk(path):
        for name in names:
            if not (child := Path(directory, name)).is_symlink():
                child.chmod(0o700)  # overlayfs leaves directories that nobody may enter
    shutil.rmtree(path)


def _write(stream: IO[bytes], message: object) -> None:
    data = pickle.dumps(message)
    stream.write(struct.pack("=I", len(data)) + data)
    stream.flush()


def _read(stream: IO[bytes]) -> object:
    head = stream.read(4)
    if len(head) < 4:
        raise EOFError("the session process has ended")
    return pickle.loads(stream.read(struct.unpack("=I", head)[0]))


async def _serve(inside: Inside, requests: IO[bytes], answers: IO[bytes]) -> None:
    while True:
        try:
            kind, *rest = cast("tuple[Any, ...]", await asyncio.to_thread(_read, requests))
        except EOFError:
            inside.zygote.close()  # containers that still run end, and with them what reads their output
            return
        try:
            if kind == "run":
                value: object = await inside.run(*rest[0], **rest[1])
            else:
                names: dict[str, Any] = {"asyncio": asyncio, "os": os, "socket": socket, "Path": Path}  # what bodies may use
                exec(compile("from __future__ import annotations\n" + rest[0], "body", "exec"), names)
                value = await names[rest[1]](inside, *rest[2])
            _write(answers, ("ok", value))
        except Exception as error:  # noqa: BLE001 - it is raised in the test
            _write(answers, ("raised", (error, traceback.format_exc())))


def main() -> None:
    """Be the session process."""
    sys.modules.setdefault("sandbox_box", sys.modules["__main__"])
    Result.__module__ = "sandbox_box"
    from pocket.sandbox import Zygote, enter_tier

    tmp = Path(sys.argv[1])
    make_base(tmp / "base")
    tier = enter_tier()
    zygote = Zygote.start(tier)
    inside = Inside(zygote, tier, tmp)
    asyncio.run(_serve(inside, sys.stdin.buffer, sys.stdout.buffer))


if __name__ == "__main__":
    main()
