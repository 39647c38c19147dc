"""Steps that several stages share: the base container, the Python environment from a lock, and whose fault a failed step is."""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagger

from ci.base import choice, environment
from ci.base.tree import FIXED_TIME
from ci.causes import hint_of
from ci.failures import ended_with, hint_for
from ci.stage import Context, InfraError, StageFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

__all__ = ["FIXED_TIME", "PATH", "VENV", "host_tree", "installed", "once", "start", "subject_fault"]

VENV = "/venv"
PATH = f"{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The search path of images and tests; installing must find the base's own Python instead, which has pip."""
_PACKAGE = Path(__file__).resolve().parents[1]
_LEFT_OUT = ["**/__pycache__", "**/*.pyc", "**/.DS_Store"]
# What pip says when the network, the index or the disk is at fault, and not the lock.
_MACHINE = re.compile(
    r"Retrying \(Retry|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|Temporary failure in name resolution|ProxyError|SSLError|"
    r"CERTIFICATE_VERIFY_FAILED|HTTP error 5\d\d|429 Client Error|No space left on device|Connection (refused|reset|broken)"
)
_TAIL_LINES = 60


def start(ctx: Context) -> dagger.Container:
    """Start from the base image, with Python's defaults for containers."""
    return choice.container(ctx.dag, ctx.base).with_env_variable("PYTHONDONTWRITEBYTECODE", "1").with_env_variable("PYTHONUNBUFFERED", "1")


def installed(ctx: Context, *locks: str) -> dagger.Container:
    """Make a virtual environment at `VENV` and install locks into it, one step each; every package must match a hash of its lock.

    Modules are compiled in a step of their own with fixed hashing, because bytecode that pip writes differs from run to run.
    """
    container = (
        start(ctx)
        .with_env_variable("PYTHONHASHSEED", "0")
        .with_mounted_cache("/var/cache/pip", ctx.dag.cache_volume("weighbridge-pip"))
        .with_env_variable("PIP_CACHE_DIR", "/var/cache/pip")
        .with_exec(["python3", "-m", "venv", "--without-pip", VENV])
    )
    for lock in locks:
        pip = [
            "python3",
            "-m",
            "pip",
            "--python",
            f"{VENV}/bin/python3",
            "install",
            "--quiet",
            "--no-compile",
            "--no-input",
            "--require-hashes",
        ]
        container = (
            container.with_mounted_file("/lock/requirements.txt", ctx.dag.host().file(str(ctx.subject / lock)))
            .with_(environment.attached(ctx.dag, machine()))
            .with_(with_secrets(ctx, for_installing(ctx)))
            .with_exec([*pip, "--requirement", "/lock/requirements.txt"])
            .with_(without_secrets(for_installing(ctx)))
            .with_(environment.detached(machine()))
            .without_mount("/lock/requirements.txt")
        )
    return container.with_exec(["python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", f"{VENV}/lib"])


def for_installing(ctx: Context) -> tuple[str, ...]:
    """Name the stage's secrets that are meant for the step that installs requirements, in whichever stage."""
    return tuple(name for name in ctx.secrets if "build" in ctx.config.secrets[name].stages)


def with_secrets(ctx: Context, names: Collection[str]) -> Callable[[dagger.Container], dagger.Container]:
    """Return what `Container.with_` needs to let the following steps see these of the stage's secrets."""

    def attach(container: dagger.Container) -> dagger.Container:
        for name in names:
            value = ctx.secrets[name]
            container = container.with_secret_variable(name, ctx.dag.set_secret(f"weighbridge/secrets/{name}", value))
        return container

    return attach


def without_secrets(names: Collection[str]) -> Callable[[dagger.Container], dagger.Container]:
    """Return what `Container.with_` needs to take them away again."""

    def detach(container: dagger.Container) -> dagger.Container:
        for name in names:
            container = container.without_secret_variable(name)
        return container

    return detach


_SCRUB = "/run/weighbridge/scrub.py"


def scrubbing(ctx: Context, directory: str) -> tuple[Callable[[dagger.Container], dagger.Container], list[str]]:
    """Return what a step needs whose files in `directory` may hold the stage's secrets, and the words before its command.

    What a step prints is scrubbed by the engine; what it writes would stay in the engine's cache as it is.
    """
    if not ctx.secrets:
        return (lambda container: container), []
    program = ctx.dag.host().directory(str(_PACKAGE), include=["scrub.py"]).file("scrub.py")
    return (lambda container: container.with_mounted_file(_SCRUB, program)), ["python3", _SCRUB, directory, ",".join(ctx.secrets), "--"]


def host_tree(ctx: Context, path: Path, include: Sequence[str] = ()) -> dagger.Directory:
    """Take a directory of this machine with one fixed time for all files, so that images do not depend on when a checkout was made."""
    return ctx.dag.host().directory(str(path), include=_below(include), exclude=_LEFT_OUT).with_timestamps(FIXED_TIME)


def public(ctx: Context, tree: dagger.Directory) -> dagger.Directory:
    """Return a tree with the modes that a checkout has under the usual umask, so that the service's user can read it and every machine
    makes the same image.
    """
    return (
        start(ctx)
        .with_directory("/tree", tree)
        .with_exec(["chmod", "-R", "u=rwX,go=rX", "/tree"])
        .directory("/tree")
        .with_timestamps(FIXED_TIME)
    )


def program(ctx: Context, *modules: str) -> dagger.Container:
    """Start from the base with modules of this package that need nothing but the standard library, for `python3 -m ci.<module>`."""
    package = ctx.dag.host().directory(str(_PACKAGE), include=["__init__.py", *modules])
    return start(ctx).with_mounted_directory("/program/ci", package).with_env_variable("PYTHONPATH", "/program")


def _below(patterns: Sequence[str]) -> list[str]:
    return [form for pattern in patterns for form in (pattern, f"{pattern}/**")]


def once(ctx: Context, container: dagger.Container) -> dagger.Container:
    """Let the following step run even where the engine remembers its result: a measurement is made, not looked up."""
    return container.with_env_variable("WEIGHBRIDGE_ONCE", ctx.measurement)


@contextmanager
def subject_fault(what: str, *, hint: str = "") -> Iterator[None]:
    """Turn a failed step into `StageFailed` with the program's last words, or into `InfraError` when it blames network or disk."""
    try:
        yield
    except dagger.ExecError as error:
        said = error.stderr.strip() or error.stdout.strip()
        tail = "\n".join(said.splitlines()[-_TAIL_LINES:])
        command = " ".join(error.command[:6])
        if blamed := _MACHINE.search(said):
            raise InfraError(
                f"{what}: {blamed.group(0)}\n{tail}", hint=hint_of(said) or "is the package index reachable from this machine?"
            ) from error
        ended = ended_with(error.exit_code)
        raise StageFailed(
            f"{what} failed: {command} …: {ended}", tail=tail, hint=hint_for(error.exit_code) or hint_of(said) or hint
        ) from error


@lru_cache(maxsize=1)
def machine() -> environment.Machine:
    return environment.detect()


def plural(count: int, one: str) -> str:
    """Write a count with its noun."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def megabytes(size: int) -> str:
    """Write a size in bytes as people read it."""
    return f"{size / 1e6:.0f} MB" if size >= 10_000_000 else f"{size / 1e6:.1f} MB"


def json_of(value: Any) -> str:
    """Write JSON whose bytes depend on the value alone."""
    import json

    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
