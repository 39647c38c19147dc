"""Services of one session: long-running containers, ports of the host, and tunnels, each with an address of its own.

A service is started when something needs it (a binding, `start`, an endpoint of a tunnel), once, and stopped ten seconds after
its last user; what was started explicitly runs until `stop` or the end of the session. An exec that binds a service, or that
runs while services were started by hand, lives in the run's network; every other exec uses the host's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pocket.errors import PocketError
from pocket.graph import Input, digest_of
from pocket.tunnels import accept_into, forward_host
from pocket.values import checked_port

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.network import Attachment, RunNetwork
    from pocket.ops.exec import Exec
    from pocket.ops.streams import Capture
    from pocket.sandbox import Outcome, Process
    from pocket.values import Container, Port

LINGER = 10.0  # seconds that a service outlives its last user
HEALTH_LIMIT = 15 * 60.0  # seconds until a port must answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A port here for a port there; 0 as the frontend means any (tunnels) or the same (host services)."""

    frontend: int
    backend: int
    protocol: str = "TCP"


def _forward(given: Mapping[str, Any], frontend: int) -> Forward:
    chosen = given.get("frontend") or frontend
    return Forward(
        frontend=checked_port(chosen) if chosen else 0, backend=checked_port(given["backend"]), protocol=given.get("protocol") or "TCP"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a service is; equal values are one service."""

    kind: Literal["container", "host", "tunnel"] = "container"
    run: Exec | None = None
    name: str = ""  # a hostname that was asked for
    host: str = ""
    forwards: tuple[Forward, ...] = ()
    target: Service | None = None

    @classmethod
    def of_host(cls, ports: list[dict[str, Any]], host: str) -> Service:
        """Make ports of the host reachable for containers."""
        forwards = tuple(_forward(p, p["backend"]) for p in ports)
        return cls(kind="host", host=host, forwards=forwards)

    @classmethod
    def tunnel(cls, target: Service, *, native: bool, ports: list[dict[str, Any]]) -> Service:
        """Make a service's ports reachable on the host's loopback.

        Raises:
            PocketError: there is no port to forward.
        """
        forwards = [_forward(p, 0) for p in ports]
        if native or not ports:
            forwards += [Forward(frontend=p.port if native else 0, backend=p.port) for p in target.ports() if p.protocol == "TCP"]
        if not forwards:
            raise PocketError("no ports to forward")
        return cls(kind="tunnel", target=target, forwards=tuple(forwards))

    def container(self) -> Container | None:
        """Give the container that the service runs in."""
        return self.run.container if self.run is not None else None

    def ports(self) -> tuple[Port, ...]:
        """Give the ports that the container exposes."""
        return self.run.container.image.ports if self.run is not None else ()

    def inputs(self) -> tuple[Input, ...]:
        """Name what must exist before the service can run; part of the key of whoever binds it."""
        if self.run is not None:
            return self.run.inputs()
        return self.target.inputs() if self.target is not None else ()

    def definition(self, engine: Engine) -> object:
        """Give the rest of what makes the service what it is, as JSON."""
        ports = [(f.frontend, f.backend, f.protocol) for f in self.forwards]
        run = self.run.args(engine) if self.run is not None else None
        target = self.target.definition(engine) if self.target is not None else None
        return [self.kind, self.name, self.host, ports, run, target]


@dataclass(slots=True, eq=False)
class Running:
    """A service that runs: its addresses, and what has to be closed."""

    host: str
    ip: str = ""
    ports: tuple[int, ...] = ()
    users: int = 0
    explicit: bool = False
    process: Process | None = None
    ended: asyncio.Task[Outcome] | None = None
    capture: Capture | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The network that one exec sees."""

    netns: Any = "host"
    hosts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    resolv: bytes | None = None
    bound: tuple[tuple[str, Running], ...] = ()

    async def check(self) -> None:
        """Raise when a bound service ended while the exec ran; the error is not that of the command."""
        for alias, running in self.bound:
            if running.ended is not None and running.ended.done():
                raise PocketError(str(ended_error(f"bound service {running.host} (aliased as {alias}) exited", running)))


class Services:
    """The services of one session."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._network: asyncio.Task[RunNetwork] | None = None
        self._running: dict[str, asyncio.Task[Running]] = {}

    # --- identity
    async def identity(self, service: Service) -> str:
        """Give the key of a service: what it is and the content of what it runs on."""
        solver = self.engine.solver
        keys = [(await solver.snapshot(i)).key for i in service.inputs()]
        return digest_of(["service", service.definition(self.engine), keys])

    async def hostname(self, service: Service) -> str:
        """Give the name under which containers of this session reach the service."""
        if service.kind == "tunnel":
            return "127.0.0.1"
        return service.name or base64.b32encode(bytes.fromhex(await self.identity(service))[:8]).decode().rstrip("=").lower()

    async def endpoint(self, service: Service, port: int | None, scheme: str) -> str:
        """Give `host:port`, with a scheme in front when one is given; a tunnel must have been started."""
        host = await self.hostname(service)
        if not port:
            port = await self._first_port(service)
        return f"{scheme}://{host}:{port}" if scheme else f"{host}:{port}"

    async def _first_port(self, service: Service) -> int:
        if service.kind == "container":
            if not service.ports():
                raise PocketError("no ports exposed")
            return service.ports()[0].port
        if service.kind == "host":
            return service.forwards[0].frontend
        task = self._running.get(await self.identity(service))
        if task is None:
            raise PocketError("the tunnel has not been started", hint="call start() first")
        return (await task).ports[0]

    async def port_numbers(self, service: Service) -> list[tuple[int, Forward]]:
        """Give the ports that a host service or a running tunnel listens on."""
        if service.kind == "host":
            return [(f.frontend, f) for f in service.forwards]
        task = self._running.get(await self.identity(service))
        return list(zip((await task).ports, service.forwards, strict=True)) if task else []

    # --- start and stop
    async def start(self, service: Service, *, alias: str = "", explicit: bool = False) -> Running:
        """Start a service unless it runs, and wait until its ports answer."""
        ident = await self.identity(service)
        task = self._running.get(ident)
        if task is not None and task.done() and (task.exception() or _is_over(task.result())):
            self._running.pop(ident)
            task = None
        if task is None:
            task = self._running[ident] = asyncio.ensure_future(self._start(service, alias))
        try:
            running = await asyncio.shield(task)
        except BaseException:
            if task.done():
                self._running.pop(ident, None)
            raise
        running.explicit = running.explicit or explicit
        return running

    async def stop(self, service: Service, *, kill: bool) -> None:
        """Stop a service that runs: SIGTERM, and SIGKILL after ten seconds or at once."""
        task = self._running.pop(await self.identity(service), None)
        if task is not None:
            await self._end(await task, signal.SIGKILL if kill else signal.SIGTERM)

    async def close(self) -> None:
        """Kill what runs and give the network back."""
        for task in list(self._running.values()):
            task.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await self._end(await task, signal.SIGKILL)
        self._running.clear()
        if self._network is not None:
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await (await self._network).close()

    async def _start(self, service: Service, alias: str) -> Running:
        running = Running(await self.hostname(service))
        try:
            match service.kind:
                case "container":
                    await self._start_container(service, running, alias)
                case "host":
                    await self._start_host(service, running)
                case "tunnel":
                    await self._start_tunnel(service, running)
        except BaseException:
            await self._end(running, signal.SIGKILL)
            raise
        return running

    async def _start_container(self, service: Service, running: Running, alias: str) -> None:
        from pocket.ops.exec import environment, prepare
        from pocket.ops.streams import Capture

        run = service.run
        assert run is not None
        if not run.argv:
            raise PocketError("no service command has been set")
        inputs = [await self.engine.solver.snapshot(i) for i in run.inputs()]
        surroundings = await running.stack.enter_async_context(self.network_for(run.container, running.host, always=True))
        running.ip = surroundings.netns.ip
        prepared = await prepare(self.engine, run.container, tuple(inputs), running.stack)
        spec = prepared.spec(
            argv=run.argv, netns=surroundings.netns, hosts=surroundings.hosts, resolv=surroundings.resolv, insecure=run.insecure,
            no_init=run.no_init, env=environment(self.engine, run.container),
        )  # fmt: skip
        running.capture = Capture(self.engine, self.engine.secrets.values_in(run.container))
        with self.engine.trace("Container.asService", {"service": running.host, "pocket.args": " ".join(run.argv)[:400]}):
            running.process = await running.capture.start(spec)
            running.ended = asyncio.ensure_future(running.capture.wait(running.process))
            await self._healthy(service, running, alias)

    async def _healthy(self, service: Service, running: Running, alias: str) -> None:
        network = await self.network()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HEALTH_LIMIT
        assert running.ended is not None
        for port in service.ports():
            if port.protocol != "TCP" or port.skip_healthcheck or port.from_image:
                continue
            pause = 0.01
            while True:
                if running.ended.done():
                    raise ended_error(f"start {running.host} (aliased as {alias})" if alias else "", running, early=True)
                try:
                    (await network.connect(running.ip, port.port)).close()
                    break
                except OSError as e:
                    if loop.time() > deadline:
                        raise PocketError(f"start {running.host}: port {port.port} did not answer in {HEALTH_LIMIT:.0f} s: {e}") from e
                await asyncio.wait([running.ended], timeout=pause)
                pause = min(pause * 1.5, 1.0)

    async def _start_host(self, service: Service, running: Running) -> None:
        network = await self.network()
        attached = await self._attach(running.stack, network, running.host)
        running.ip = attached.ip
        running.ports = tuple(f.frontend for f in service.forwards)
        for f in service.forwards:
            listener = await network.listen(attached, f.frontend)
            await running.stack.enter_async_context(forward_host(listener, service.host, f.backend))

    async def _start_tunnel(self, service: Service, running: Running) -> None:
        assert service.target is not None
        target = await self.start(service.target)
        self._use(target)
        running.stack.callback(self._release, target)
        network = await self.network()
        ports = [await running.stack.enter_async_context(accept_into(network, target.ip, f)) for f in service.forwards]
        running.ports = tuple(ports)

    async def _end(self, running: Running, number: int) -> None:
        if running.timer is not None:
            running.timer.cancel()
        if running.process is not None and running.ended is not None and not running.ended.done():
            running.process.signal(number)
            await asyncio.wait([running.ended], timeout=LINGER if number == signal.SIGTERM else 1.0)
            if not running.ended.done():
                running.process.kill()
                await asyncio.wait([running.ended], timeout=LINGER)
        await running.stack.aclose()

    def _use(self, running: Running) -> None:
        running.users += 1
        if running.timer is not None:
            running.timer.cancel()
            running.timer = None

    def _release(self, running: Running) -> None:
        running.users -= 1
        if running.users == 0 and not running.explicit:
            running.timer = asyncio.get_running_loop().call_later(LINGER, self._expire, running)

    def _expire(self, running: Running) -> None:
        for ident, task in list(self._running.items()):
            if task.done() and not task.cancelled() and task.exception() is None and task.result() is running:
                del self._running[ident]
        self._background = asyncio.ensure_future(self._end(running, signal.SIGTERM))

    # --- the network of the run
    async def network(self) -> RunNetwork:
        """Give the run's network, made when it is first needed."""
        if self._network is None:
            from pocket.network import RunNetwork

            self._network = asyncio.ensure_future(RunNetwork.start(self.engine.zygote, offline=self.engine.offline))
        return await asyncio.shield(self._network)

    async def _attach(self, stack: AsyncExitStack, network: RunNetwork, name: str) -> Attachment:
        attached = await network.attach(name)
        stack.push_async_callback(attached.close)
        return attached

    @contextlib.asynccontextmanager
    async def network_for(self, container: Container, own: str = "", *, always: bool = False) -> AsyncIterator[Surroundings]:
        """Give the network of one exec, with the services it binds running; `own` is the hostname of a service."""
        others = [t.result() for t in self._running.values() if t.done() and not t.cancelled() and t.exception() is None]
        explicit = [r for r in others if r.explicit and r.ip]
        if not container.services and not explicit and not always:
            yield Surroundings()
            return
        async with AsyncExitStack() as stack:
            bound = []
            for alias, service in container.services:
                running = await self.start(service, alias=alias)
                self._use(running)
                stack.callback(self._release, running)
                bound.append((alias, running))
            network = await self.network()
            attached = await self._attach(stack, network, own)
            names: dict[str, list[str]] = {r.ip: [r.host] for r in explicit}
            for alias, running in bound:
                names.setdefault(running.ip, [running.host]).append(alias)
            if own:
                names[attached.ip] = [own]
            hosts = tuple((ip, tuple(dict.fromkeys(n))) for ip, n in names.items())
            yield Surroundings(attached, hosts, network.resolv, tuple(bound))


def _is_over(running: Running) -> bool:
    return running.ended is not None and running.ended.done()


def ended_error(what: str, running: Running, *, early: bool = False) -> PocketError:
    """Give the error for a service that has ended: what happened, its exit code and what it said; `early`: it should have answered."""
    from pocket.ops.exec import ExecError

    assert running.ended is not None
    assert running.capture is not None
    outcome, capture = running.ended.result(), running.capture
    out, err = (d.decode("utf-8", "replace") for d in (capture.stdout(), capture.stderr()))
    process_argv = capture.argv
    why = outcome.error or f"exit code: {outcome.exit_code}"
    code = outcome.exit_code
    if early and code == 0:
        why, code, out, err = "service exited before healthcheck", -1, "", ""
    return ExecError(f"{what}: {why}" if what else why, argv=process_argv, exit_code=code, stdout=out, stderr=err)
