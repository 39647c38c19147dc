"""Running a command: from a container value to the sandbox's spec, and from its outcome to snapshots and streams.

The key holds what the command can see and what makes it what it is; never secret values, volatile values, the content of
cache volumes, or what the machine adds (proxies, trace context).
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocket.errors import PocketError
from pocket.gpu import identity as gpu_identity
from pocket.gpu import mounts as gpu_mounts
from pocket.graph import ROOT, Input, Node, Op, Outputs, Ref, digest_of
from pocket.ops.stacks import mountable
from pocket.ops.streams import Capture, error_tail
from pocket.sandbox import ExecSpec, Mount
from pocket.sandbox.record import ROOT_MOUNT
from pocket.store import disk
from pocket.store.layer import Snapshot
from pocket.tree.owners import resolve_owner
from pocket.tree.view import View
from pocket.values import DEFAULT_PATH, Container, MountPoint

if TYPE_CHECKING:
    from pocket.engine import Engine
    from pocket.sandbox import Outcome

#: The exit codes that each `ReturnType` accepts (Dagger leaves out 128…191: a signal is never what was expected).
EXPECTED = {"SUCCESS": {0}, "FAILURE": {*range(1, 128), *range(192, 256)}, "ANY": {*range(128), *range(192, 256)}}


class ExecError(PocketError):
    """A command ended otherwise than expected; `extensions` is what SDKs make their `ExecError` of."""

    def __init__(self, message: str, *, argv: tuple[str, ...], exit_code: int, stdout: str, stderr: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.extensions = {"_type": "EXEC_ERROR", "cmd": list(argv), "exitCode": exit_code, "stdout": stdout, "stderr": stderr}
        self.exit_code = exit_code
        self.container: Container | None = None
        """What the command left, where the session keeps that (POCKET_KEEP_FAILED)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec(Op):
    """One command in one container."""

    kind = "exec"
    container: Container
    argv: tuple[str, ...]
    stdin: str = ""
    redirects: tuple[str, str, str] = ("", "", "")  # stdin, stdout, stderr: paths in the container
    expect: str = "SUCCESS"
    insecure: bool = False
    no_init: bool = False
    network: str = ""  # "none" for a step without one

    def inputs(self) -> tuple[Input, ...]:
        """Name the root file system, what is mounted, and what the bound services run on."""
        own = (Input(self.container.rootfs), *(_mount_input(m) for m in _with_content(self.container)))
        return (*own, *(i for _, service in self.container.services for i in service.inputs()))

    def args(self, engine: Engine) -> object:
        """Give what the command can see besides files."""
        c = self.container
        return {
            "argv": self.argv, "stdin": self.stdin, "redirects": self.redirects, "expect": self.expect, "cwd": c.image.workdir,
            "user": c.image.user, "env": [(p.name, p.value) for p in c.image.env], "platform": c.platform,
            "mounts": [_mount_key(m) for m in c.mounts], "secrets": [(n, s.name) for n, s in c.secret_env],
            "volatile": sorted(p.name for p in c.volatile_env), "flags": [self.insecure, self.no_init, self.network],
            "services": [(alias, s.definition(engine)) for alias, s in c.services], "gpu": gpu_identity(c.gpus) if c.gpus else None,
        }  # fmt: skip

    async def run(self, engine: Engine, inputs: tuple[Snapshot, ...], key: str) -> Outputs:
        """Run it and commit what it wrote."""
        async with AsyncExitStack() as stack:
            network = await stack.enter_async_context(engine.services.network_for(self.container))
            prepared = await prepare(engine, self.container, inputs, stack)
            alone = self.network == "none" or (engine.offline and network.netns == "host")
            spec = prepared.spec(
                argv=self.argv, netns="none" if alone else network.netns, hosts=network.hosts, resolv=network.resolv,
                insecure=self.insecure, no_init=self.no_init, redirects=self.redirects, stdin=self.stdin.encode() if self.stdin else None,
                env=(*engine.proxy_env(), *engine.trace_env(), *environment(engine, self.container)),
            )  # fmt: skip
            scrubbed = engine.secrets.values_in(self.container)
            capture = Capture(engine, scrubbed)
            outcome = await capture.run(spec)
            await network.check()
            return await self._finish(engine, prepared, inputs, outcome, capture)

    async def _finish(
        self, engine: Engine, prepared: Prepared, inputs: tuple[Snapshot, ...], outcome: Outcome, capture: Capture
    ) -> Outputs:
        if outcome.error is not None or outcome.exit_code not in EXPECTED[self.expect]:
            error = self._error(outcome, capture, disk.full(engine.store.root))
            if outcome.error is None and engine.keeps_failed:
                kept = await engine.blocking(self._commit, engine, prepared, inputs[0], outcome)
                error.container = after(self.container, Node(self, Outputs(kept)))
            raise error
        snapshots = await engine.blocking(self._commit, engine, prepared, inputs[0], outcome)
        out, err, combined = await capture.blobs()
        return Outputs(snapshots, outcome.exit_code, out, err, combined)

    def _commit(self, engine: Engine, prepared: Prepared, root: Snapshot, outcome: Outcome) -> dict[str, Snapshot]:
        """Put what the command wrote into the store, for the root and for each mount with content."""
        snapshots = {ROOT: _committed(engine, prepared.upper, root, outcome.stubs, outcome, ROOT_MOUNT)}
        for index, point in enumerate(self.container.mounts):
            if (below := prepared.content.get(index)) is None:
                continue
            stubs = tuple(path for i, path in outcome.mount_stubs if i == index)
            upper = prepared.mounts[index].upper
            snapshots[point.target] = below if upper is None else _committed(engine, Path(upper), below, stubs, outcome, index)
        return snapshots

    def _error(self, outcome: Outcome, capture: Capture, hint: str) -> ExecError:
        message = outcome.error or f"exit code: {outcome.exit_code}"
        if outcome.timed_out:
            message = f"exit code: {outcome.exit_code} (timed out)"
        elif outcome.oom:
            message = f"exit code: {outcome.exit_code} (probably killed for lack of memory)"
        code = -1 if outcome.error else outcome.exit_code
        out, err = error_tail(capture.stdout()), error_tail(capture.stderr())
        return ExecError(message, argv=self.argv, exit_code=code, stdout=out, stderr=err, hint=hint)


def after(c: Container, node: Node) -> Container:
    """Give the container as a command leaves it."""
    mounts = tuple(
        replace(m, tree=replace(m.tree, ref=Ref(node, m.target))) if m.tree is not None
        else replace(m, leaf=replace(m.leaf, ref=Ref(node, m.target))) if m.leaf is not None
        else m
        for m in c.mounts
    )  # fmt: skip
    return c.change(rootfs=Ref(node, ROOT), mounts=mounts, last_exec=node)


def _committed(engine: Engine, upper: Path, lower: Snapshot, stubs: tuple[str, ...], outcome: Outcome, mount: int) -> Snapshot:
    notes = tuple(note for note in outcome.owners if note[0] == mount)
    layer = engine.store.commit_upper(upper, lower, drop=stubs, owner=outcome.owner, notes=notes)
    if layer is None:
        return lower
    return Snapshot((*lower.layers, layer), digest_of(["stack", lower.key, layer.digest]))


def _with_content(c: Container) -> list[MountPoint]:
    return [m for m in c.mounts if m.kind in ("directory", "file") or (m.cache is not None and m.cache.seed is not None)]


def _mount_input(m: MountPoint) -> Input:
    if m.tree is not None:
        return Input(m.tree.ref, m.tree.path)
    if m.leaf is not None:
        return Input(m.leaf.ref, m.leaf.path, "file")
    assert m.cache is not None
    assert m.cache.seed is not None
    return Input(m.cache.seed.ref, m.cache.seed.path)


def _mount_key(m: MountPoint) -> object:
    secret = m.secret.name if m.secret else ""
    volume = [m.cache.ident, m.cache.sharing, m.cache.owner] if m.cache else []
    return [m.target, m.kind, m.readonly, m.owner, m.mode, m.size, secret, volume]


@dataclass(slots=True)
class Prepared:
    """The directories and mounts of one run, made fresh below the session's temporary directory."""

    container: Container
    lowers: tuple[str, ...]
    upper: Path
    work: Path
    mounts: list[Mount] = field(default_factory=list)
    content: dict[int, Snapshot] = field(default_factory=dict)  # index of a mount → the snapshot below it

    def spec(
        self, *, redirects: tuple[str, str, str] = ("", "", ""), devices: tuple[str, ...] = (), env: tuple[str, ...], **options: Any
    ) -> ExecSpec:
        """Give the spec for the sandbox; options are further fields of `ExecSpec`."""
        files = [self.container.resolve(path) if path else None for path in redirects]
        return ExecSpec(
            lowers=self.lowers, upper=str(self.upper), work=str(self.work), mounts=tuple(self.mounts), env=env, devices=devices,
            cwd=self.container.resolve("."), user=self.container.image.user,
            redirect_stdin=files[0], redirect_stdout=files[1], redirect_stderr=files[2], **options,
        )  # fmt: skip


async def prepare(engine: Engine, c: Container, inputs: tuple[Snapshot, ...], stack: AsyncExitStack) -> Prepared:
    """Make what a run needs: scratch directories, mounts with their own uppers, cache volumes (locked where asked), secrets."""
    tmp = engine.store.tmp()
    stack.push_async_callback(engine.blocking, disk.discard, tmp)
    prepared = Prepared(c, _lowers(engine, inputs[0]), engine.store.make_upper(tmp / "upper", inputs[0]), _made(tmp / "work"))
    below = iter(inputs[1:])  # in the order of `_with_content`
    for index, point in enumerate(c.mounts):
        match point.kind:
            case "directory" | "file":
                prepared.content[index] = next(below)
                mount = _content_mount(engine, point, prepared.content[index], tmp, index)
            case "cache":
                seed = next(below) if point.cache is not None and point.cache.seed is not None else None
                mount = await _cache_mount(engine, point, inputs[0], seed, stack)
            case _:
                mount = _plain_mount(engine, point, inputs[0])
        prepared.mounts.append(mount)
    prepared.mounts += gpu_mounts(c.gpus)
    return prepared


def _lowers(engine: Engine, snapshot: Snapshot) -> tuple[str, ...]:
    return tuple(str(layer.path) for layer in reversed(mountable(engine.store, snapshot)))


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _content_mount(engine: Engine, point: MountPoint, snapshot: Snapshot, tmp: Path, index: int) -> Mount:
    lowers = _lowers(engine, snapshot)
    subpath = point.leaf.path if point.leaf else point.tree.path if point.tree else ""
    if subpath:
        View(snapshot).need(subpath)  # the error that a person understands; its index was read for the key
    if point.readonly:
        return Mount(target=point.target, kind="overlay", lowers=lowers, subpath=subpath, readonly=True)
    upper, work = engine.store.make_upper(tmp / f"upper{index}", snapshot), _made(tmp / f"work{index}")
    return Mount(target=point.target, kind="overlay", lowers=lowers, subpath=subpath, upper=str(upper), work=str(work))


async def _cache_mount(engine: Engine, point: MountPoint, root: Snapshot, seed: Snapshot | None, stack: AsyncExitStack) -> Mount:
    volume = point.cache
    assert volume is not None
    seeded = [] if seed is None else [seed.key]  # another seed is another volume
    ident = digest_of(["volume", volume.ident, volume.sharing, volume.owner, *seeded])[:24]
    path = await engine.blocking(engine.store.volume, ident, seed=seed)
    if volume.owner and engine.tier.name != "single-uid":
        os.chown(path, *resolve_owner(root, volume.owner))
    if volume.sharing != "SHARED":
        await stack.enter_async_context(engine.store.volume_lock(ident))
    return Mount(target=point.target, kind="bind", source=str(path))


def _plain_mount(engine: Engine, point: MountPoint, root: Snapshot) -> Mount:
    uid, gid = resolve_owner(root, point.owner) if point.owner else (0, 0)
    if point.kind == "temp":
        return Mount(target=point.target, kind="tmpfs", size=point.size)
    if point.kind == "socket":
        return Mount(target=point.target, kind="bind", source=point.socket)
    assert point.secret is not None
    content = engine.secrets.value(point.secret)
    return Mount(target=point.target, kind="file", content=content, mode=point.mode, uid=uid, gid=gid, readonly=True)


def environment(engine: Engine, c: Container) -> tuple[str, ...]:
    """Give the declared environment of a command: image, then volatile, then secret variables; the last one of a name wins."""
    values = {p.name: p.value for p in c.image.env}
    values.setdefault("PATH", DEFAULT_PATH)
    values |= {p.name: p.value for p in c.volatile_env}
    for name, secret in c.secret_env:
        values.pop(name, None)
        values[name] = os.fsdecode(engine.secrets.value(secret))
    for name, value in values.items():
        if not name or "\0" in name + value:
            raise PocketError(f"the environment variable {name!r} has {'a NUL byte' if name else 'no name'}")
    return tuple(f"{name}={value}" for name, value in values.items())
