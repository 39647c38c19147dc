"""`Container` fields that run commands, and those that read what a command left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pocket.api.registry import field
from pocket.api.service import keep_up
from pocket.errors import PocketError
from pocket.graph import Node, Outputs
from pocket.ops.exec import Exec, after
from pocket.services import Service
from pocket.values import Container

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj


@field("Container", "withExec")
def with_exec(  # noqa: PLR0913, PLR0917 - the API's arguments
    engine: Engine,
    c: Container,
    args: list[str],
    use_entrypoint: bool,
    stdin: str,
    redirect_stdin: str,
    redirect_stdout: str,
    redirect_stderr: str,
    expect: str,
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
    expand: bool,
    no_init: bool,
) -> Container:
    if experimental_privileged_nesting:
        raise PocketError("not supported by pocket: experimentalPrivilegedNesting — use a Dagger engine")
    if stdin and redirect_stdin:
        raise PocketError("cannot set both stdin and redirectStdin")
    files = (redirect_stdin, redirect_stdout, redirect_stderr)
    redirects = (c.expand(files[0]), c.expand(files[1]), c.expand(files[2])) if expand else files
    argv = tuple(c.expand(a) for a in args) if expand else tuple(args)
    argv = argv or (c.image.cmd or ())
    if use_entrypoint:
        argv = (*(c.image.entrypoint or ()), *argv)
    if not argv:
        raise PocketError("no command has been set")
    op = Exec(
        container=_bare(c), argv=argv, stdin=stdin, redirects=redirects, expect=expect,
        insecure=insecure_root_capabilities, no_init=no_init,
    )  # fmt: skip
    node = Node(op, name="Container.withExec", traceparent=engine.traceparent())
    return after(c, node)


def _bare(c: Container) -> Container:
    """Give the container without what a command cannot see, so that it does not count for its identity."""
    return replace(c, annotations=(), image_ref="", last_exec=None, default_args_set=False)


async def _last(e: Engine, c: Container) -> Outputs:
    if c.last_exec is None:
        raise PocketError("no command has been set")
    return await e.solver.outputs(c.last_exec)


def _text(e: Engine, digest: str) -> str:
    return e.store.blobs.path(digest).read_bytes().decode("utf-8", "replace") if digest else ""


@field("Container", "stdout")
async def stdout(e: Engine, c: Container) -> str:
    return _text(e, (await _last(e, c)).stdout)


@field("Container", "stderr")
async def stderr(e: Engine, c: Container) -> str:
    return _text(e, (await _last(e, c)).stderr)


@field("Container", "combinedOutput")
async def combined_output(e: Engine, c: Container) -> str:
    return _text(e, (await _last(e, c)).combined)


@field("Container", "exitCode")
async def exit_code(e: Engine, c: Container) -> int:
    return (await _last(e, c)).exit_code or 0


@field("Container", "sync", whole=True)
async def sync(e: Engine, o: Obj) -> str:
    await e.solver.outputs(o.state.rootfs.node)
    return o.id


@field("Container", "withServiceBinding")
def with_service_binding(_: Engine, c: Container, alias: str, service: Obj) -> Container:
    bound = (alias, service.state)
    return c if bound in c.services else c.change(services=(*c.services, bound))  # of two with one name the first one answers


@field("Container", "asService")
def as_service(
    _: Engine,
    c: Container,
    args: list[str],
    use_entrypoint: bool,
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
    expand: bool,
    no_init: bool,
) -> Service:
    if experimental_privileged_nesting:
        raise PocketError("not supported by pocket: experimentalPrivilegedNesting — use a Dagger engine")
    entrypoint = c.image.entrypoint or ()
    if args:
        given = tuple(c.expand(a) for a in args) if expand else tuple(args)
        argv = (*entrypoint, *given) if use_entrypoint else given
    else:
        argv = c.image.cmd or ()
        if use_entrypoint or not c.default_args_set:
            argv = (*entrypoint, *argv)
    return Service(run=Exec(container=_bare(c), argv=argv, insecure=insecure_root_capabilities, no_init=no_init))


@field("Container", "up", pure=False)
async def up(
    e: Engine,
    c: Container,
    random: bool,
    ports: list[dict[str, object]],
    args: list[str],
    use_entrypoint: bool,
    experimental_privileged_nesting: bool,
    insecure_root_capabilities: bool,
    expand: bool,
    no_init: bool,
) -> None:
    service = as_service(e, c, args, use_entrypoint, experimental_privileged_nesting, insecure_root_capabilities, expand, no_init)
    await keep_up(e, Service.tunnel(service, native=not random and not ports, ports=ports))


@field("Container", "withDefaultTerminalCmd")
def with_default_terminal_cmd(_: Engine, c: Container) -> Container:
    return c  # it changes nothing but what `terminal` would run
