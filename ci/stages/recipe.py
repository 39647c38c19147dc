"""A Dockerfile as the build's recipe: its text is adapted to this machine and built by the engine's own Dockerfile builder.

What is adapted: a FROM that names the configured base or one of `base.aliases` becomes that base (an archive or the `host` base lies in the
build's context, because no builder knows archives), and each RUN sees the machine's CA bundle, proxies and package index while it runs,
through mounts of secrets, so that neither the image nor a key holds any of it. Limits: a FROM with variables and `COPY --from` an image
stay as they are; of a base that is no registry's, every file belongs to root.
"""

from __future__ import annotations

import configparser
import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ci.base import choice, environment
from ci.files import IGNORED
from ci.stage import Base, Context, StageFailed
from ci.stages import common

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import dagger

_PLACE = ".weighbridge-base"
_PIP, _CA, _NETRC = (f"{environment.PLACE}/{name}" for name in ("pip.conf", "ca.pem", "netrc"))
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_WORD = re.compile(r"(\s*\S+)")


@dataclass(frozen=True, slots=True)
class Start:
    """What a FROM line becomes: the reference after FROM, and the lines below it."""

    reference: str
    lines: tuple[str, ...] = ()


async def built(ctx: Context) -> dagger.Container:
    """Return the image that the subject's Dockerfile makes.

    Raises:
        StageFailed: there is no such file, or it is no Dockerfile.

    """
    build = ctx.config.build
    text = _read(ctx)
    context = common.public(ctx, _context(ctx))
    starts: dict[str, Start] = {}
    for reference, base in (await _bases(ctx, text)).items():
        starts[reference], context = await _start(ctx, base, f"{_PLACE}/{len(starts)}", context)
    machine = common.machine()
    mounts, secrets = mounts_of(machine)
    for number, directory in enumerate(machine.links):
        packages = ctx.dag.host().directory(str(directory), include=environment.PACKAGES)
        context = context.with_directory(f"{_PLACE}/links/{number}", packages)
        mounts += (f"type=bind,source={_PLACE}/links/{number},target={environment.PLACE}/links/{number}",)
    context = context.with_new_file(build.dockerfile, adapted(text, starts, mounts))
    ignored = ctx.subject / ".dockerignore"
    if ignored.is_file():
        context = context.with_new_file(".dockerignore", f"{ignored.read_text(encoding='utf-8')}\n!{_PLACE}\n")
    own = {name: ctx.secrets[name] for name in common.for_installing(ctx)}
    import dagger

    return context.docker_build(
        dockerfile=build.dockerfile,
        target=build.target,
        build_args=[dagger.BuildArg(name=name, value=value) for name, value in sorted(build.args.items())],
        secrets=[ctx.dag.set_secret(name, value) for name, value in {**secrets, **own}.items()],
    )


def adapted(text: str, starts: Mapping[str, Start], mounts: Sequence[str]) -> str:
    """Return a Dockerfile with other bases (reference → what becomes of it) and with mounts for each RUN."""
    lines = text.splitlines()
    stages: set[str] = set()
    flags = " ".join(f"--mount={mount}" for mount in mounts)
    for command in parsed(text):
        first, last = command.start_line - 1, command.end_line
        if command.cmd.upper() == "RUN" and mounts:
            word = _WORD.match(lines[first])
            lines[first] = " ".join([word[1] if word else "RUN", flags, lines[first][word.end() if word else 0 :].lstrip()])
        elif command.cmd.upper() == "FROM":
            start = starts.get(_normal(command.value[0])) if command.value[0].lower() not in stages else None
            if start:
                words = ["FROM", start.reference, *command.value[1:]]
                lines[first:last] = ["\n".join([" ".join(words), *start.lines]), *[""] * (last - first - 1)]
            stages |= {name.lower() for name in command.value[2:3]}
    return "\n".join(lines) + "\n"


def parsed(text: str) -> Sequence[Any]:
    """Return the commands of a Dockerfile.

    Raises:
        StageFailed: it is none.

    """
    import dockerfile

    try:
        commands: Sequence[Any] = dockerfile.parse_string(text)
    except dockerfile.GoParseError as error:
        raise StageFailed(f"the Dockerfile cannot be read: {error}") from error
    return commands


def mounts_of(machine: environment.Machine) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the mounts that let a RUN see the machine's settings, and the secrets behind them, by name.

    A setting whose value says nothing (a timeout, a switch) must be no secret: it would be taken out of what the step prints.
    """
    pip = {name: value for name, value in {**machine.plain, **machine.secret}.items() if name.startswith("PIP_")}
    pip |= {"PIP_CERT": _CA} if machine.ca_bundle else {}
    links = [f"{environment.PLACE}/links/{number}" for number in range(len(machine.links))]
    pip |= {"PIP_FIND_LINKS": " ".join([*links, *filter(None, [pip.get("PIP_FIND_LINKS", "")])])} if links else {}
    files = {_PIP: _pip_conf(pip), _CA: machine.ca_bundle, _NETRC: machine.netrc}
    variables = {name: value for name, value in machine.secret.items() if not name.startswith("PIP_")} | {"PIP_CONFIG_FILE": _PIP}
    variables |= dict.fromkeys(_CA_VARIABLES, _CA) if machine.ca_bundle else {}
    variables |= {"NETRC": _NETRC} if machine.netrc else {}
    mounts, secrets = [], {}
    for path, content in files.items():
        if content:
            name = f"weighbridge-{path.rpartition('/')[2]}"
            secrets[name] = content
            mounts.append(f"type=secret,id={name},target={path},mode=0444")
    for variable, value in variables.items():
        secrets[f"weighbridge-{variable}"] = value
        mounts.append(f"type=secret,id=weighbridge-{variable},env={variable}")
    return tuple(mounts), secrets


def _pip_conf(variables: Mapping[str, str]) -> str:
    parser = configparser.RawConfigParser()
    parser["global"] = {name.removeprefix("PIP_").lower().replace("_", "-"): value for name, value in sorted(variables.items())}
    written = io.StringIO()
    parser.write(written)
    return written.getvalue()


def _read(ctx: Context) -> str:
    name = ctx.config.build.dockerfile
    try:
        return (ctx.subject / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StageFailed(f"{name} cannot be read: {error}", hint="build.dockerfile is relative to the subject") from error


def _context(ctx: Context) -> dagger.Directory:
    """Take what the Dockerfile may copy."""
    patterns = [*ctx.config.build.context, ctx.config.build.dockerfile, ".dockerignore"]
    include = [] if "." in patterns else [form for pattern in patterns for form in (pattern, f"{pattern}/**")]
    left_out = [form for name in IGNORED for form in (name, f"**/{name}")]
    return ctx.dag.host().directory(str(ctx.subject), include=include, exclude=left_out).with_timestamps(common.FIXED_TIME)


def _normal(reference: str) -> str:
    """Return a reference in full: `python:3` is `docker.io/library/python:3`; what is none stays."""
    from pocket.oci.reference import InvalidReference, parse

    try:
        return str(parse(reference))
    except InvalidReference:
        return reference


async def _bases(ctx: Context, text: str) -> dict[str, Base]:
    """Return the references of FROM lines that stand for bases of the configuration."""
    config = ctx.config.base
    aliases = {_normal(name): image for name, image in config.aliases.items()}
    found: dict[str, Base] = {}
    for command in parsed(text):
        name = _normal(command.value[0]) if command.cmd.upper() == "FROM" else ""
        if name in aliases and name not in found:
            found[name] = await choice.resolve_reference(aliases[name], config, root=ctx.root, cache=ctx.cache)
        elif name and name == _normal(config.image):
            found[name] = ctx.base
    return found


async def _start(ctx: Context, base: Base, place: str, context: dagger.Directory) -> tuple[Start, dagger.Directory]:
    """Return what FROM becomes for a base, and the context with the base in it, where it is no registry's."""
    if base.archive is None:
        return Start(base.reference), context
    root = choice.container(ctx.dag, base)
    lines = [f"COPY {place}/ /"]
    lines += [
        f"ENV {await variable.name()}={json.dumps(await variable.value()).replace('$', chr(92) + '$')}"
        for variable in await root.env_variables()
    ]
    workdir, user = await root.workdir(), await root.user()
    lines += [f"WORKDIR {workdir}"] if workdir else []
    lines += [f"USER {user}"] if user else []
    return Start("scratch", tuple(lines)), context.with_directory(place, root.rootfs())
