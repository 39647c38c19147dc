"""Chooses the engine and keeps one session with it: the embedded pocket, or a Dagger engine, both behind the Dagger session protocol.

The session's process is started here rather than by the SDK, in a process group of its own: a Ctrl-C on the terminal then reaches the
pipeline first, which ends the session in order, and nothing that the session started can outlive it. Only where no Dagger CLI is at hand
does the SDK fetch and start one itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections import deque
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ci.errors import InfraError
from ci.scrub import Scrubber, Stream
from ci.sdk import begin_loading, load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    import anyio.abc
    import dagger

RUNNER_HOST, CLI, PORT, TOKEN = (
    "_EXPERIMENTAL_DAGGER_RUNNER_HOST",
    "_EXPERIMENTAL_DAGGER_CLI_BIN",
    "DAGGER_SESSION_PORT",
    "DAGGER_SESSION_TOKEN",
)
_LAUNCH = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pocket.cli import main; sys.exit(main())"
_START_SECONDS = {"pocket": 60, "dagger": 300}
_STOP_SECONDS = 20
_TIERS = {"single-uid": "rootless (single uid)", "subuid": "rootless (several uids)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """Which engine, and how it is reached."""

    kind: Literal["pocket", "dagger", "session"]
    cli: tuple[str, ...] = ()
    """The command in front of `session`; empty when the SDK finds one, or the session is there already."""
    runner_host: str = ""
    why: str = ""
    """Why this one, when it is not the default."""

    @property
    def here(self) -> bool:
        """Whether its steps run on this machine, as far as its address tells."""
        return not self.runner_host.startswith(("tcp://", "ssh://", "kube-pod://"))

    def identity(self, pocket: str) -> str:
        """Return what keys hold: an engine that may behave differently is another engine. `pocket` is the embedded engine's identity."""
        return pocket if self.kind == "pocket" else f"{self.kind} {self.runner_host or ' '.join(self.cli)}".strip()


def choose(option: str, configured: str, environ: Mapping[str, str]) -> EngineChoice:
    """Return the engine: `--engine` first, then a session or engine that the environment names, then the configuration."""
    if option:
        return _named(option, environ, f"--engine {option}")
    if environ.get(PORT):
        return EngineChoice(kind="session", why="inside `dagger run`")
    if environ.get(CLI):
        return EngineChoice(kind="dagger", cli=(environ[CLI],), runner_host=environ.get(RUNNER_HOST, ""), why=f"{CLI} is set")
    if environ.get(RUNNER_HOST):
        return _named(environ[RUNNER_HOST], environ, f"{RUNNER_HOST} is set")
    return _named(configured, environ, "" if configured == "pocket" else "configured")


def _named(name: str, environ: Mapping[str, str], why: str) -> EngineChoice:
    if name == "pocket" and sys.platform == "linux":
        return EngineChoice(kind="pocket", cli=pocket_command(), why=why)
    if name == "pocket":
        why = "pocket needs Linux"
    found = environ.get(CLI) or shutil.which("dagger", path=environ.get("PATH"))
    host = environ.get(RUNNER_HOST, "") if name in {"dagger", "pocket"} else name
    return EngineChoice(kind="dagger", cli=(found,) if found else (), runner_host=host, why=why)


def pocket_command() -> tuple[str, ...]:
    """Return the command that runs the pocket beside this very package, installed or not."""
    spec = find_spec("pocket")
    if spec is None or spec.origin is None:
        raise InfraError("the embedded engine is not installed", hint="pip install weighbridge, or --engine dagger", lasting=True)
    # -P: what lies in the working directory must not be imported in place of a module that pocket means.
    return (sys.executable, "-P", "-c", _LAUNCH, str(Path(spec.origin).parent.parent))


def other_runtime(environ: Mapping[str, str]) -> str:
    """Return the name of a container runtime that is here too; it changes nothing, and is mentioned."""
    return next((name for name in ("docker", "podman", "nerdctl") if shutil.which(name, path=environ.get("PATH"))), "")


@dataclass(slots=True)
class Session:
    """A session that is opened by whoever needs it first and lives in the task that runs `serve`."""

    choice: EngineChoice
    root: Path
    log: Path
    environment: Mapping[str, str]
    on_death: Callable[[InfraError], None]
    scrubber: Scrubber = field(default_factory=Scrubber)
    described: dict[str, str] = field(default_factory=dict)
    """`engine`, `version`, `tier` … as far as they are known."""
    _wanted: anyio.Event = field(init=False)
    _named: anyio.Event = field(init=False)
    _heard: anyio.Event = field(init=False)
    _ready: anyio.Event = field(init=False)
    _closing: anyio.Event = field(init=False)
    _error: InfraError | None = None
    _client: dagger.Client | None = None
    _process: anyio.abc.Process | None = None
    _said: deque[str] = field(default_factory=lambda: deque(maxlen=40))

    def __post_init__(self) -> None:
        import anyio

        self._wanted, self._named, self._heard = anyio.Event(), anyio.Event(), anyio.Event()
        self._ready, self._closing = anyio.Event(), anyio.Event()
        self.described = {"engine": self.choice.kind, "why": self.choice.why}

    async def client(self) -> dagger.Client:
        """Return the client, after opening the session when this is the first call.

        Raises:
            InfraError: the engine cannot be started or reached; it says what the engine said.

        """
        self._wanted.set()
        await self._ready.wait()
        if self._error or self._client is None:
            raise self._error or InfraError("the engine's session has ended", lasting=True)
        return self._client

    async def named(self) -> dict[str, str]:
        """Ask for the session, and return what is known of the engine as soon as it has said its name."""
        self._wanted.set()
        await self._named.wait()
        return dict(self.described)

    async def serve(self) -> None:
        """Open the session when it is wanted, hold it until `close`, then end it and everything it started."""
        await self._wanted.wait()
        if self._closing.is_set():
            self._ready.set()
            return
        try:
            async with self._connection():
                self._ready.set()
                await self._closing.wait()
        except Exception as error:  # noqa: BLE001  the SDK and httpx raise many kinds; all mean that there is no engine
            cause = _cause(error)
            known = (
                cause
                if isinstance(cause, InfraError)
                else InfraError(f"the engine cannot be used: {cause}", hint=self._words(), lasting=True)
            )
            self._error = self._error or known
        finally:
            self._client = None
            self._named.set()
            self._ready.set()

    def close(self) -> None:
        """Ask the session to end; `serve` returns when it has."""
        self._closing.set()
        self._wanted.set()

    def kill(self) -> None:
        """End the engine's processes at once."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[None]:
        import anyio

        async with contextlib.AsyncExitStack() as stack:
            given = self.choice.kind == "session"
            begin_loading()  # while the engine's process starts
            params = {} if given or not self.choice.cli else await stack.enter_async_context(self._spawned())
            # Importing the SDK takes a second; the screen stays alive meanwhile.
            sdk = await anyio.to_thread.run_sync(load)
            if not given:
                provisioning = {} if params else {**self.environment, RUNNER_HOST: self.choice.runner_host}
                stack.enter_context(_environment({PORT: "", TOKEN: "", **params, **provisioning}))
            config = sdk.Config() if not params else sdk.Config(retry=None)  # a local engine that does not answer is dead
            if not given and not params:
                config.log_output = stack.enter_context(self.log.open("w"))
            await stack.enter_async_context(sdk.connection(config))
            self._client = sdk.dag
            if self.choice.kind != "pocket":
                self.described["version"] = str(await sdk.dag.version())
            self._named.set()
            yield

    @contextlib.asynccontextmanager
    async def _spawned(self) -> AsyncIterator[dict[str, str]]:
        """Start the session's process; gives the environment for the SDK."""
        import anyio

        kept = {name: value for name, value in os.environ.items() if name not in {PORT, TOKEN}}
        host = {RUNNER_HOST: self.choice.runner_host} if self.choice.runner_host else {}
        command = [*self.choice.cli, "session", "--label", "dagger.io/sdk.name:python", "--workdir", str(self.root)]
        try:
            process = await anyio.open_process(command, env={**kept, **self.environment, **host}, cwd=self.root, start_new_session=True)
        except OSError as error:
            raise InfraError(f"the engine cannot be started: {error}", hint=f"command: {command[0]}", lasting=True) from error
        self._process = process
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._listen, process)
            try:
                yield await self._first_line(process)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._stop(process)
                tasks.cancel_scope.cancel()

    async def _first_line(self, process: anyio.abc.Process) -> dict[str, str]:
        import anyio
        from anyio.streams.buffered import BufferedByteReceiveStream

        assert process.stdout is not None
        try:
            with anyio.fail_after(_START_SECONDS[self.choice.kind]):
                line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1 << 16)
            answer = json.loads(line)
            if int(answer["port"]) < 1:
                raise ValueError(answer["port"])
            return {PORT: str(answer["port"]), TOKEN: str(answer["session_token"])}
        except (anyio.EndOfStream, anyio.IncompleteRead):
            with anyio.move_on_after(2):  # its last words come through another pipe
                await self._heard.wait()
            raise InfraError("the engine ended before it was ready", hint=self._words(), lasting=True) from None
        except TimeoutError:
            raise InfraError(
                f"the engine was not ready within {_START_SECONDS[self.choice.kind]} s", hint=self._words(), lasting=True
            ) from None
        except (ValueError, KeyError, TypeError):
            raise InfraError("the engine answered something that is no session", hint=self._words(), lasting=True) from None

    async def _listen(self, process: anyio.abc.Process) -> None:
        """Keep what the engine says on stderr, and notice when it ends without being asked."""
        from anyio.streams.text import TextReceiveStream

        assert process.stderr is not None
        rest, stream = "", Stream(self.scrubber)
        with self.log.open("w") as log:
            async for piece in TextReceiveStream(process.stderr, errors="replace"):
                text = stream.feed(piece)
                log.write(text)
                log.flush()
                *lines, rest = (rest + text).split("\n")
                for line in lines:
                    self._take(line)
            log.write(left := stream.close())
        if rest + left:
            self._take(rest + left)
        self._heard.set()
        await process.wait()
        if not self._closing.is_set() and self._ready.is_set():
            self._error = InfraError(f"the engine ended in mid-run (exit code {process.returncode})", hint=self._words(), lasting=True)
            self.on_death(self._error)

    def _take(self, line: str) -> None:
        if not self._said and self.choice.kind == "pocket" and " · " in line:
            name, tier, *_ = line.split(" · ")
            tier = tier.removeprefix("tier ")
            self.described.update(version=name.rpartition(" ")[2], tier=_TIERS.get(tier, tier))
            self._named.set()
        self._said.append(line)

    def _words(self) -> str:
        said = [line for line in self._said if line.strip()]
        return "\n".join(said[-12:])

    async def _stop(self, process: anyio.abc.Process) -> None:
        """End the session as its protocol says (stdin closes); one that does not follow is killed with everything it started."""
        import anyio

        self._closing.set()
        if process.stdin:
            with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await process.stdin.aclose()
        with anyio.move_on_after(_STOP_SECONDS):
            await process.wait()
        self.kill()
        await process.wait()


def _cause(error: BaseException) -> BaseException:
    """Return what a task group wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Any:
    """Set variables of this process for a while (an empty value takes one away): the SDK reads its settings there and nowhere else."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        for name, value in changes.items():
            os.environ.pop(name, None)
            if value:
                os.environ[name] = value
        yield
    finally:
        for name, old in before.items():
            os.environ.pop(name, None)
            if old is not None:
                os.environ[name] = old
