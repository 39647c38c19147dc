"""What a run would meet on this machine: engine, base, cache, registry login, what steps get of the machine. Changes nothing.

The embedded engine probes itself (`pocket doctor`, in a process of its own); the rest is looked up, without asking any registry.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ci.engine import EngineChoice, choose, other_runtime
from ci.errors import WeighbridgeError

if TYPE_CHECKING:
    from ci.commands.surroundings import Surroundings

Status = Literal["ok", "warn", "fail", "info"]
_ENOUGH = 5 << 30
_PROBE_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def examine(here: Surroundings | WeighbridgeError, cache: Path, option: str = "") -> Iterator[Answer]:
    """Give all answers; `here` is the repository, or why there is none that can be used."""
    if isinstance(here, WeighbridgeError):
        yield Answer(
            name="configuration", status="fail", detail="; ".join(str(here).splitlines()), fix=here.hint or "weighbridge init writes one"
        )
        engine = choose(option, "pocket", os.environ)
    else:
        yield Answer(name="configuration", status="ok", detail=f"{len(here.stages)} stages: {', '.join(here.stages)}")
        engine = choose(option, here.config.engine, os.environ)
    yield _engine(engine)
    if engine.kind == "pocket":
        yield from _pocket(engine)
    yield _space(cache)
    if not isinstance(here, WeighbridgeError):
        yield _base(here)
        yield from _registry(here)
    yield _passed_on()


def _engine(engine: EngineChoice) -> Answer:
    other = other_runtime(os.environ)
    parts = [engine.kind, engine.runner_host, engine.why or "the default on Linux"]
    parts += [f"{other} is here too: --engine dagger"] if other and engine.kind == "pocket" else []
    detail = " · ".join(part for part in parts if part)
    if engine.kind == "dagger" and not engine.cli:
        return Answer(
            name="engine",
            status="warn",
            detail=f"{detail} · no Dagger CLI on PATH",
            fix="the SDK fetches one at the first run; or install it",
        )
    if engine.kind == "dagger" and not engine.runner_host and not other:
        return Answer(
            name="engine", status="fail", detail=f"{detail} · nothing that runs containers", fix="--engine pocket, or name a runner host"
        )
    return Answer(name="engine", status="ok", detail=detail)


def _pocket(engine: EngineChoice) -> Iterator[Answer]:
    """Ask the embedded engine what it can do here."""
    try:
        done = subprocess.run([*engine.cli, "doctor", "--json"], capture_output=True, text=True, check=False, timeout=_PROBE_SECONDS)
        probes: list[dict[str, Any]] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        yield Answer(name="pocket", status="fail", detail=f"does not answer: {type(error).__name__}", fix="pocket doctor says more")
        return
    for probe in probes:
        yield Answer(name=probe["name"], status=probe["status"], detail=probe["detail"], fix=probe.get("fix") or "")


def _space(cache: Path) -> Answer:
    place = next(path for path in (cache, *cache.parents) if path.exists())
    usage = shutil.disk_usage(place)
    detail = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.0f} for {cache}"
    if not os.access(place, os.W_OK):
        return Answer(
            name="cache", status="fail", detail=f"{place} cannot be written to", fix="set WEIGHBRIDGE_CACHE to a directory that can"
        )
    if usage.free < _ENOUGH:
        fix = "free some, set WEIGHBRIDGE_CACHE to a directory on another disk, or pocket prune --max-bytes"
        return Answer(name="cache", status="warn", detail=detail, fix=fix)
    return Answer(name="cache", status="ok", detail=detail)


def _base(here: Surroundings) -> Answer:
    from ci.commands.surroundings import schedule_of

    wanted = here.config.base.image
    known = schedule_of(here).base
    if known is None:
        return Answer(name="base", status="info", detail=f"{wanted}: not resolved here yet; a run does that")
    if known.kind == "host" and wanted != "host":
        detail = f"{wanted} → host, {known.description}; {'; '.join(known.tried)}"
        return Answer(name="base", status="warn", detail=detail, fix="releases refuse the host base: let this machine reach the registry")
    return Answer(name="base", status="ok", detail=f"{wanted}: {known.description}")


def _registry(here: Surroundings) -> Iterator[Answer]:
    """Say whether there is a login for where `push` pushes to."""
    target = here.config.push.target
    if target is None:
        yield Answer(name="registry", status="info", detail=f"none: push writes the OCI layout {here.config.push.layout}")
        return
    import anyio

    from pocket.oci.credentials import Keychain
    from pocket.oci.errors import PocketError

    host, _, repository = target.partition("/")
    try:
        found = anyio.run(Keychain().find, host, repository)
    except PocketError as error:
        yield Answer(name="registry", status="fail", detail=str(error), fix=error.hint)
        return
    if found is None:
        yield Answer(
            name="registry", status="warn", detail=f"no login for {host}", fix=f"docker login {host}, or a CI secret in DOCKER_CONFIG"
        )
    else:
        yield Answer(name="registry", status="ok", detail=f"a login for {host}")


def _passed_on() -> Answer:
    from ci.base.environment import passthrough

    passed = passthrough()
    told = ", ".join(f"{one.name} ({one.shown})" for one in passed) or "nothing"
    steps = f", in {passed[0].steps}" if passed else ""
    return Answer(name="steps get", status="info", detail=f"{told} of this machine{steps}; images never do")
