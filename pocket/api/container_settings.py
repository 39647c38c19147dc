"""`Container` fields that only change or read image settings; reading waits for the command before it, whose failure it tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pocket.api.registry import field
from pocket.api.trees import Settled, settled
from pocket.durations import nanoseconds, shown
from pocket.errors import PocketError
from pocket.values import Container, Healthcheck, Pair, Port, drop, put

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.query import Obj


# --- environment ---------------------------------------------------------------------------------------------------
@field("Container", "withEnvVariable")
def with_env_variable(_: Engine, c: Container, name: str, value: str, expand: bool) -> Container:
    return c.configure(env=put(c.image.env, name, c.expand(value) if expand else value))


@field("Container", "withoutEnvVariable")
def without_env_variable(_: Engine, c: Container, name: str) -> Container:
    return c.configure(env=drop(c.image.env, name))


@field("Container", "envVariable")
def env_variable(e: Engine, c: Container, name: str) -> Settled[str | None]:
    return settled(e, c, c.env(name))


@field("Container", "envVariables")
def env_variables(e: Engine, c: Container) -> Settled[list[Pair]]:
    return settled(e, c, list(c.image.env))


@field("Container", "withSecretVariable")
def with_secret_variable(_: Engine, c: Container, name: str, secret: Obj) -> Container:
    others = tuple((n, s) for n, s in c.secret_env if n != name)
    return c.change(secret_env=(*others, (name, secret.state)))


@field("Container", "withoutSecretVariable")
def without_secret_variable(_: Engine, c: Container, name: str) -> Container:
    return c.change(secret_env=tuple((n, s) for n, s in c.secret_env if n != name))


@field("Container", "withVolatileVariable")
def with_volatile_variable(_: Engine, c: Container, name: str, value: str) -> Container:
    return c.change(volatile_env=put(c.volatile_env, name, value))


@field("Container", "withoutVolatileVariable")
def without_volatile_variable(_: Engine, c: Container, name: str) -> Container:
    return c.change(volatile_env=drop(c.volatile_env, name))


# --- labels and annotations ----------------------------------------------------------------------------------------
@field("Container", "withLabel")
def with_label(_: Engine, c: Container, name: str, value: str) -> Container:
    return c.configure(labels=put(c.image.labels, name, value))


@field("Container", "withoutLabel")
def without_label(_: Engine, c: Container, name: str) -> Container:
    return c.configure(labels=drop(c.image.labels, name))


@field("Container", "label")
def label(e: Engine, c: Container, name: str) -> Settled[str | None]:
    return settled(e, c, next((p.value for p in c.image.labels if p.name == name), None))


@field("Container", "labels")
def labels(e: Engine, c: Container) -> Settled[list[Pair]]:
    return settled(e, c, list(c.image.labels))


@field("Container", "withAnnotation")
def with_annotation(_: Engine, c: Container, name: str, value: str) -> Container:
    return c.change(annotations=put(c.annotations, name, value))


@field("Container", "withoutAnnotation")
def without_annotation(_: Engine, c: Container, name: str) -> Container:
    return c.change(annotations=drop(c.annotations, name))


@field("EnvVariable", "name")
@field("Label", "name")
def pair_name(_: Engine, p: Pair) -> str:
    return p.name


@field("EnvVariable", "value")
@field("Label", "value")
def pair_value(_: Engine, p: Pair) -> str:
    return p.value


# --- user, directory, command --------------------------------------------------------------------------------------
@field("Container", "withUser")
def with_user(_: Engine, c: Container, name: str) -> Container:
    return c.configure(user=name)


@field("Container", "withoutUser")
def without_user(_: Engine, c: Container) -> Container:
    return c.configure(user="")


@field("Container", "user")
def user(e: Engine, c: Container) -> Settled[str]:
    return settled(e, c, c.image.user)


@field("Container", "withWorkdir")
def with_workdir(_: Engine, c: Container, path: str, expand: bool) -> Container:
    path = c.expand(path) if expand else path
    return c.configure(workdir=path if path.startswith("/") else c.resolve(path))  # an absolute one is kept as it was written


@field("Container", "withoutWorkdir")
def without_workdir(_: Engine, c: Container) -> Container:
    return c.configure(workdir="")


@field("Container", "workdir")
def workdir(e: Engine, c: Container) -> Settled[str]:
    return settled(e, c, c.image.workdir)


@field("Container", "withEntrypoint")
def with_entrypoint(_: Engine, c: Container, args: list[str], keep_default_args: bool) -> Container:
    changed = c.configure(entrypoint=tuple(args))
    return changed if keep_default_args else changed.configure(cmd=None).change(default_args_set=False)


@field("Container", "withoutEntrypoint")
def without_entrypoint(_: Engine, c: Container, keep_default_args: bool) -> Container:
    changed = c.configure(entrypoint=None)
    return changed if keep_default_args else changed.configure(cmd=None).change(default_args_set=False)


@field("Container", "entrypoint")
def entrypoint(e: Engine, c: Container) -> Settled[list[str]]:
    return settled(e, c, list(c.image.entrypoint or ()))


@field("Container", "withDefaultArgs")
def with_default_args(_: Engine, c: Container, args: list[str]) -> Container:
    return c.configure(cmd=tuple(args)).change(default_args_set=True)


@field("Container", "withoutDefaultArgs")
def without_default_args(_: Engine, c: Container) -> Container:
    return c.configure(cmd=None).change(default_args_set=False)


@field("Container", "defaultArgs")
def default_args(e: Engine, c: Container) -> Settled[list[str]]:
    return settled(e, c, list(c.image.cmd or ()))


@field("Container", "platform")
def platform_(e: Engine, c: Container) -> Settled[str]:
    return settled(e, c, c.platform)


@field("Container", "imageRef")
def image_ref(_: Engine, c: Container) -> str:
    if not c.image_ref:
        raise PocketError(
            "Image reference can only be retrieved immediately after the 'Container.From' call. "
            "Error in fetching imageRef as the container image is changed"
        )
    return c.image_ref


@field("Container", "withError")
def with_error(_: Engine, c: Container, err: str) -> Container:
    if err:
        raise PocketError(err)
    return c


# --- ports and health ----------------------------------------------------------------------------------------------
@field("Container", "withExposedPort")
def with_exposed_port(
    _: Engine, c: Container, port: int, protocol: str, experimental_skip_healthcheck: bool, description: str | None = None
) -> Container:
    exposed = Port(port, protocol, description, experimental_skip_healthcheck)  # any number: it counts where somebody connects
    places = [(p.port, p.protocol) for p in c.image.ports]
    if (port, protocol) not in places:
        return c.configure(ports=(*c.image.ports, exposed))
    return c.configure(ports=tuple(exposed if place == (port, protocol) else p for place, p in zip(places, c.image.ports, strict=True)))


@field("Container", "withoutExposedPort")
def without_exposed_port(_: Engine, c: Container, port: int, protocol: str) -> Container:
    return c.configure(ports=tuple(p for p in c.image.ports if (p.port, p.protocol) != (port, protocol)))


@field("Container", "exposedPorts")
def exposed_ports(e: Engine, c: Container) -> Settled[list[Port]]:
    return settled(e, c, list(c.image.ports))


@field("Port", "port")
def port_number(_: Engine, p: Port) -> int:
    return p.port


@field("Port", "protocol")
def port_protocol(_: Engine, p: Port) -> str:
    return p.protocol


@field("Port", "description")
def port_description(_: Engine, p: Port) -> str | None:
    return p.description


@field("Port", "experimentalSkipHealthcheck")
def port_skip(_: Engine, p: Port) -> bool:
    return p.skip_healthcheck


@field("Container", "withDockerHealthcheck")
def with_docker_healthcheck(
    _: Engine,
    c: Container,
    args: list[str],
    shell: bool | None = None,
    interval: str | None = None,
    timeout: str | None = None,
    start_period: str | None = None,
    start_interval: str | None = None,
    retries: int | None = None,
) -> Container:
    if not args:
        raise PocketError("WithHealthcheck args is missing")
    if shell and len(args) > 1:
        raise PocketError("WithHealthcheck args must be a single element when shell mode is set")
    check = Healthcheck(
        tuple(args), bool(shell), retries=retries or 0, interval=nanoseconds(interval or ""), timeout=nanoseconds(timeout or ""),
        start_period=nanoseconds(start_period or ""), start_interval=nanoseconds(start_interval or ""),
    )  # fmt: skip
    return c.configure(healthcheck=check)


@field("Container", "withoutDockerHealthcheck")
def without_docker_healthcheck(_: Engine, c: Container) -> Container:
    return c.configure(healthcheck=None)


@field("Container", "dockerHealthcheck")
def docker_healthcheck(e: Engine, c: Container) -> Settled[Healthcheck | None]:
    return settled(e, c, c.image.healthcheck)


@field("HealthcheckConfig", "args")
def healthcheck_args(_: Engine, h: Healthcheck) -> list[str]:
    return list(h.args)


@field("HealthcheckConfig", "shell")
def healthcheck_shell(_: Engine, h: Healthcheck) -> bool:
    return h.shell


@field("HealthcheckConfig", "interval")
def healthcheck_interval(_: Engine, h: Healthcheck) -> str:
    return shown(h.interval)


@field("HealthcheckConfig", "timeout")
def healthcheck_timeout(_: Engine, h: Healthcheck) -> str:
    return shown(h.timeout)


@field("HealthcheckConfig", "startPeriod")
def healthcheck_start_period(_: Engine, h: Healthcheck) -> str:
    return shown(h.start_period)


@field("HealthcheckConfig", "startInterval")
def healthcheck_start_interval(_: Engine, h: Healthcheck) -> str:
    return shown(h.start_interval)


@field("HealthcheckConfig", "retries")
def healthcheck_retries(_: Engine, h: Healthcheck) -> int:
    return h.retries


# --- devices -------------------------------------------------------------------------------------------------------
@field("Container", "experimentalWithGPU")
def with_gpu(_: Engine, c: Container, devices: list[str]) -> Container:
    return replace(c, gpus=tuple(devices))


@field("Container", "experimentalWithAllGPUs")
def with_all_gpus(_: Engine, c: Container) -> Container:
    return replace(c, gpus=("all",))
