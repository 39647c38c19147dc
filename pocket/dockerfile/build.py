"""From stages to containers. Each instruction makes a new container value; only the stages that the target needs are looked at."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pocket.dockerfile import copy as copying
from pocket.dockerfile.mounts import mounts_of, script_mount
from pocket.dockerfile.parse import Dockerfile, DockerfileError, Instruction, Stage, parse_trigger
from pocket.dockerfile.words import expand
from pocket.durations import nanoseconds
from pocket.errors import PocketError
from pocket.graph import ROOT, Node, Ref, Tree
from pocket.ops import edits
from pocket.ops.edit import edit
from pocket.ops.exec import Exec
from pocket.values import Container, Healthcheck, MountPoint, Port, put

if TYPE_CHECKING:
    from pocket.values import Secret

Pull = Callable[[str], Awaitable[Container]]
_PREDEFINED = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a build is asked for. `pull` gives the container of an image reference."""

    file: Dockerfile
    context: Tree
    pull: Pull
    empty: Container
    args: Mapping[str, str]
    secrets: Mapping[str, Secret]
    no_init: bool = False


@dataclass(slots=True)
class _State:
    """A stage while it is built: the container, the ARGs in scope, and whether CMD was set in this stage."""

    container: Container
    scope: dict[str, str] = field(default_factory=dict)
    cmd_here: bool = False

    def values(self) -> dict[str, str]:
        """Give what `$NAME` means: ARGs, overridden by ENV."""
        return {**self.scope, **{p.name: p.value for p in self.container.image.env}}


class Build:
    """One build; stages are built once however often they are named."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._done: dict[int, Container] = {}
        system, _, machine = request.empty.platform.partition("/")
        architecture, _, variant = machine.partition("/")
        platform = {"OS": system, "ARCH": architecture, "VARIANT": variant, "PLATFORM": request.empty.platform}
        self._globals = {f"{side}{k}": v for side in ("TARGET", "BUILD") for k, v in platform.items()}
        for instruction in request.file.globals:
            self._arg(instruction, self._globals, self._globals)

    async def target(self, name: str) -> Container:
        """Build the stage of that name or number, the last one for ""."""
        return await self._stage(self.request.file.find(name))

    async def _stage(self, stage: Stage) -> Container:
        if stage.index not in self._done:
            base = await self._base(stage)
            state = _State(base.configure(on_build=()), cmd_here=False)
            for trigger in base.image.on_build:
                await self._apply(stage, state, parse_trigger(trigger, stage.line))
            for instruction in stage.body:
                await self._apply(stage, state, instruction)
            self._done[stage.index] = state.container
        return self._done[stage.index]

    async def _base(self, stage: Stage) -> Container:
        name = expand(stage.base, self._globals)
        if not name:
            raise DockerfileError(stage.line, f"base name ({stage.base}) should not be blank")
        platform = expand(stage.platform, self._globals)
        if platform and platform != self.request.empty.platform:
            ours = self.request.empty.platform
            raise DockerfileError(stage.line, f"pocket builds {ours} only, not {platform} — use a Dagger engine")
        return await self._named(name, stage.index)

    async def _named(self, name: str, before: int) -> Container:
        """Give an earlier stage, `scratch`, or an image."""
        for other in self.request.file.stages[:before]:
            if other.name == name.lower():
                return await self._stage(other)
        return self.request.empty if name == "scratch" else await self.request.pull(name)

    async def _source(self, name: str, stage: Stage) -> Tree:
        """Give the tree that --from names: a stage, an image, or the context for ""."""
        if not name:
            return self.request.context
        if name.isdigit() and int(name) < stage.index:
            return Tree((await self._stage(self.request.file.stages[int(name)])).rootfs)
        return Tree((await self._named(name, stage.index)).rootfs)

    # --- instructions
    async def _apply(self, stage: Stage, state: _State, instruction: Instruction) -> None:
        try:
            match instruction.name:
                case "RUN":
                    await self._run(stage, state, instruction)
                case "COPY" | "ADD":
                    await self._copy(stage, state, instruction)
                case "ARG":
                    self._arg(instruction, state.scope, state.values())
                case name:
                    _SETTINGS[name](state, instruction)
        except DockerfileError:
            raise
        except PocketError as e:
            raise DockerfileError(instruction.line, str(e), hint=e.hint) from e

    def _arg(self, instruction: Instruction, scope: dict[str, str], values: Mapping[str, str]) -> None:
        for word in instruction.args:
            name, equals, default = word.partition("=")
            if name in self.request.args:
                scope[name] = self.request.args[name]
            elif equals:
                scope[name] = expand(default, {**values, **scope})
            elif name in self._globals:
                scope[name] = self._globals[name]

    async def _run(self, stage: Stage, state: _State, instruction: Instruction) -> None:
        instruction.refuse_flags("mount", "network", "security")
        c = state.container

        async def source(name: str) -> Tree:
            return await self._source(name, stage)

        mounts, variables = await mounts_of(instruction, c, source, self.request.secrets, lambda t: expand(t, state.values()))
        argv, script = self._command(c, instruction)
        mounts += [script] if script else []
        env = c.image.env
        for name, value in state.scope.items():
            if c.env(name) is None and name.upper() not in _PREDEFINED:
                env = put(env, name, value)
        running = replace(c.configure(env=env), mounts=tuple(mounts), secret_env=tuple(variables), last_exec=None)
        op = Exec(
            container=running, argv=argv, no_init=self.request.no_init, insecure=instruction.flag("security") == "insecure",
            network=instruction.flag("network"),
        )  # fmt: skip
        node = Node(op, name="Dockerfile.RUN")
        state.container = c.change(rootfs=Ref(node, ROOT), last_exec=node)

    @staticmethod
    def _command(c: Container, instruction: Instruction) -> tuple[tuple[str, ...], MountPoint | None]:
        if instruction.json:
            return instruction.args, None
        shell = c.image.shell or ("/bin/sh", "-c")
        (text,) = instruction.args or ("",)
        docs = instruction.heredocs
        if not docs:
            return (*shell, text), None
        if text.strip() == docs[0].word:
            if docs[0].content.startswith("#!"):
                path = f"/dev/pipes/{docs[0].name}"
                return (path,), script_mount(path, docs[0].content)
            return (*shell, docs[0].content), None
        bodies = "".join(f"{d.content}{d.name}\n" for d in docs)
        return (*shell, f"{text}\n{bodies}"), None

    async def _copy(self, stage: Stage, state: _State, instruction: Instruction) -> None:
        instruction.refuse_flags("from", "chown", "chmod", "link", "parents", "exclude", "checksum", "keep-git-dir", "unpack")
        values = state.values()
        words = [expand(a, values) for a in instruction.args if not any(a == d.word for d in instruction.heredocs)]
        if not words or (len(words) < 2 and not instruction.heredocs):
            raise DockerfileError(instruction.line, f"{instruction.name} requires at least two arguments")
        *sources, dest = words
        c = state.container
        owner, chmod = expand(instruction.flag("chown"), values), expand(instruction.flag("chmod"), values)
        where = c.resolve(dest) + ("/" if dest.endswith(("/", "/.")) or dest == "." else "")
        ref = c.rootfs
        if sources:
            copying.refuse_remote(instruction, sources)
            tree = await self._source(expand(instruction.flag("from"), values), stage)
            options: dict[str, Any] = {
                "root": tree.path, "sources": sources, "dest": where, "line": instruction.line, "chmod": chmod,
                "exclude": [expand(x, values) for x in instruction.all_flags("exclude")],
                "parents": instruction.flag("parents") == "true",
                "unpack": instruction.name == "ADD" and instruction.flag("unpack", "true") == "true",
            }  # fmt: skip
            ref = edit("dockerfile.copy", ref, copying.copy, *self._parts(tree, sources), owner=owner, **options)
        if instruction.heredocs:
            files = [(d.name, expand(d.content, values, quotes=False) if d.expand else d.content) for d in instruction.heredocs]
            ref = edit("dockerfile.text", ref, copying.copy_text, owner=owner, files=files, dest=where, chmod=chmod)
        state.container = c.change(rootfs=ref)

    @staticmethod
    def _parts(tree: Tree, sources: Sequence[str]) -> tuple[Tree]:
        """Give the input of a COPY: one whole path counts alone, so that a change beside it copies nothing again."""
        if len(sources) == 1 and not any(c in sources[0] for c in "*?["):
            path = posixpath.normpath(posixpath.join("/", sources[0])).lstrip("/")
            if path:
                return (Tree(tree.ref, posixpath.join(tree.path, path)),)
        return (tree,)


# --- settings: instructions that change no file (WORKDIR makes its directory) ----------------------------------------
def _pairs(state: _State, instruction: Instruction) -> list[tuple[str, str]]:
    words = [expand(w, state.values()) for w in instruction.args]
    return list(zip(words[::2], words[1::2], strict=True))


def _env(state: _State, instruction: Instruction) -> None:
    env = state.container.image.env
    for name, value in _pairs(state, instruction):
        env = put(env, name, value)
    state.container = state.container.configure(env=env)


def _label(state: _State, instruction: Instruction) -> None:
    labels = state.container.image.labels
    for name, value in _pairs(state, instruction):
        labels = put(labels, name, value)
    state.container = state.container.configure(labels=labels)


def _workdir(state: _State, instruction: Instruction) -> None:
    c = state.container
    path = c.resolve(expand(instruction.args[0], state.values()))
    made = edit("make_dir", c.rootfs, edits.make_dir, owner=c.image.user, users=c.rootfs, path=path, mode=0o755)
    state.container = c.configure(workdir=path).change(rootfs=made)


def _user(state: _State, instruction: Instruction) -> None:
    state.container = state.container.configure(user=expand(instruction.args[0], state.values()))


def _argv(c: Container, instruction: Instruction) -> tuple[str, ...]:
    if instruction.json:
        return instruction.args
    return (*(c.image.shell or ("/bin/sh", "-c")), *instruction.args) if instruction.args else ()


def _cmd(state: _State, instruction: Instruction) -> None:
    state.cmd_here = True
    state.container = state.container.configure(cmd=_argv(state.container, instruction))


def _entrypoint(state: _State, instruction: Instruction) -> None:
    changed = state.container.configure(entrypoint=_argv(state.container, instruction))
    state.container = changed if state.cmd_here else changed.configure(cmd=None)


def _expose(state: _State, instruction: Instruction) -> None:
    ports = state.container.image.ports
    for word in (w for a in instruction.args for w in expand(a, state.values()).split()):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?(?:/(tcp|udp))?", word, re.IGNORECASE)
        if match is None:
            raise DockerfileError(instruction.line, f"invalid containerPort: {word}")
        for number in range(int(match[1]), int(match[2] or match[1]) + 1):
            port = Port(number, (match[3] or "tcp").upper(), None, from_image=True)
            ports = (*(p for p in ports if (p.port, p.protocol) != (port.port, port.protocol)), port)
    state.container = state.container.configure(ports=ports)


def _volume(state: _State, instruction: Instruction) -> None:
    volumes = tuple(expand(a, state.values()) for a in instruction.args)
    state.container = state.container.configure(volumes=tuple(dict.fromkeys((*state.container.image.volumes, *volumes))))


def _stop_signal(state: _State, instruction: Instruction) -> None:
    state.container = state.container.configure(stop_signal=expand(instruction.args[0], state.values()))


def _shell(state: _State, instruction: Instruction) -> None:
    if not instruction.json:
        raise DockerfileError(instruction.line, "SHELL requires the arguments to be in JSON form")
    state.container = state.container.configure(shell=instruction.args)


def _on_build(state: _State, instruction: Instruction) -> None:
    parse_trigger(instruction.args[0], instruction.line)
    state.container = state.container.configure(on_build=(*state.container.image.on_build, instruction.args[0]))


def _healthcheck(state: _State, instruction: Instruction) -> None:
    instruction.refuse_flags("interval", "timeout", "start-period", "start-interval", "retries")
    kind, *rest = instruction.args
    if kind.upper() == "NONE":
        check = Healthcheck(("NONE",))
    else:
        retries = instruction.flag("retries", "0")
        check = Healthcheck(
            tuple(rest), shell=not instruction.json, retries=int(retries),
            interval=nanoseconds(instruction.flag("interval")), timeout=nanoseconds(instruction.flag("timeout")),
            start_period=nanoseconds(instruction.flag("start-period")), start_interval=nanoseconds(instruction.flag("start-interval")),
        )  # fmt: skip
    state.container = state.container.configure(healthcheck=check)


def _nothing(_: _State, __: Instruction) -> None:
    """MAINTAINER is deprecated and no part of an OCI image."""


_SETTINGS: dict[str, Callable[[_State, Instruction], None]] = {
    "ENV": _env, "LABEL": _label, "WORKDIR": _workdir, "USER": _user, "CMD": _cmd, "ENTRYPOINT": _entrypoint, "EXPOSE": _expose,
    "VOLUME": _volume, "STOPSIGNAL": _stop_signal, "SHELL": _shell, "ONBUILD": _on_build, "HEALTHCHECK": _healthcheck,
    "MAINTAINER": _nothing,
}  # fmt: skip
