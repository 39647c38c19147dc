"""`pocket shell IMAGE`: a command in a throw-away container of an image or archive, on the user's own terminal.

With a terminal on both sides the command gets one of the container's own, so that editors, job control and Ctrl-C work; otherwise
its streams are the caller's, so that it can stand in a pipe. What it writes is gone at the end, and nothing of it is recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pocket.errors import PocketError
from pocket.sandbox import Zygote, enter_tier
from pocket.store.store import Store, default_root

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.sandbox import Process
    from pocket.values import Container

#: What runs when no command is given: bash where the image has it.
_DEFAULT = ("sh", "-c", "command -v bash >/dev/null && exec bash || exec sh")
_GRACE = 5.0  # seconds that a command has to end when it is told to
#: Signals that are passed on; those of the keyboard are only sent to us where the command has no terminal of its own.
_PASSED = (signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def parser() -> argparse.ArgumentParser:
    """Give the parser of the command's arguments."""
    p = argparse.ArgumentParser(
        prog="pocket shell", allow_abbrev=False, usage="pocket shell [-e NAME=VALUE] [-u USER] [-w DIR] IMAGE [-- CMD…]",
        description="Run a shell, or a command, in a throw-away container. What it writes is gone at the end.",
        epilog="example: pocket shell --env DEBUG=1 alpine:3.20.2 -- ls -l /etc",
    )  # fmt: skip
    p.add_argument("image", metavar="IMAGE", help="a reference (alpine:3.20.2), or the path of an OCI or Docker archive")
    p.add_argument("-e", "--env", metavar="NAME=VALUE", action="append", default=[], help="set a variable; NAME alone takes yours")
    p.add_argument("-u", "--user", metavar="USER[:GROUP]", default="", help="a name or number of the image (default: the image's)")
    p.add_argument("-w", "--workdir", metavar="DIR", default="", help="where to start (default: the image's)")
    return p


def main(argv: list[str]) -> int:
    """Run one shell; gives its exit code.

    Raises:
        PocketError: the container cannot be made.
    """
    cut = argv.index("--") if "--" in argv else len(argv)
    asked, command = parser().parse_args(argv[:cut]), tuple(argv[cut + 1 :])
    tier = enter_tier()
    store = Store.open(default_root(), tier=tier.name)
    zygote = Zygote.start(tier)

    async def body() -> int:
        from pocket.engine import Engine

        engine = Engine(store=store, tier=tier, zygote=zygote, workdir=Path.cwd(), environ=os.environ)
        try:
            return await _shell(engine, asked, command or _DEFAULT)
        finally:
            await engine.close()

    try:
        return asyncio.run(body())
    finally:
        zygote.close()


async def _shell(engine: Engine, asked: argparse.Namespace, command: tuple[str, ...]) -> int:
    from pocket.graph import Input
    from pocket.ops.exec import environment, prepare

    terminal = os.isatty(0) and os.isatty(1)
    container = await _container(engine, asked, terminal=terminal)
    snapshot = await engine.solver.snapshot(Input(container.rootfs))
    async with AsyncExitStack() as stack:
        prepared = await prepare(engine, container, (snapshot,), stack)
        spec = prepared.spec(
            argv=command,
            env=(*engine.proxy_env(), *environment(engine, container)),
            stdin=0,
            tty=terminal,
            grace=_GRACE,
        )
        process = await engine.zygote.spawn(spec, stdout=1, stderr=2)
        with _signals(process):
            inner = await process.terminal()
            if inner is not None:
                await _joined(process, inner)
            outcome = await process.wait()
    if outcome.error:
        raise PocketError(outcome.error)
    return outcome.exit_code


async def _joined(process: Process, inner: int) -> None:
    from pocket.terminal import Joined, raw

    with raw(0):
        async with Joined(inner, 0, 1) as joined:
            await process.wait()
            await joined.ended()


async def _container(engine: Engine, asked: argparse.Namespace, *, terminal: bool) -> Container:
    from pocket.oci.manifest import Platform
    from pocket.ops.given import given
    from pocket.ops.image import settings_of
    from pocket.ops.registry import open_archive, pull_image
    from pocket.values import Container, put

    path = Path(asked.image)
    if path.is_file():
        config, snapshot, _ = await open_archive(engine, path.absolute())
    else:
        config, snapshot, _ = await pull_image(engine, asked.image, str(Platform.local()))
    image = settings_of(config)
    env = put(image.env, "TERM", os.environ.get("TERM", "xterm")) if terminal else image.env
    for item in asked.env:
        name, equals, value = item.partition("=")
        env = put(env, name, value if equals else os.environ.get(name, ""))
    image = replace(image, env=env, user=asked.user or image.user, workdir=asked.workdir or image.workdir)
    return Container(rootfs=given(snapshot), image=image)


def _end(process: Process) -> None:
    process.signal(signal.SIGHUP)  # an interactive shell ignores SIGTERM
    process.terminate()


@contextlib.contextmanager
def _signals(process: Process) -> Iterator[None]:
    """Pass signals to the command; those that mean the end give it time to end."""
    loop = asyncio.get_running_loop()
    for number in _PASSED:
        loop.add_signal_handler(number, process.signal, number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _end, process)
    try:
        yield
    finally:
        for number in (*_PASSED, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
