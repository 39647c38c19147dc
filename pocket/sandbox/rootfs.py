"""From a spec to a root file system that this process stands in: overlay, devices, /proc, mounts, and the host is gone.

Sources become detached mounts first; then the host is unmounted; only then are targets looked up, by the kernel, in a tree that
holds nothing else. So a link in an image, such as /etc/resolv.conf → ../../home/you/x, leads nowhere else. (While an old root still
lies stacked upon the new one after pivot_root, ".." at the top would lead into it.) Runs in the container's first process; the
result (`Root`) tells which mount points had to be made.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pocket.sandbox import linux, sources, workspace
from pocket.sandbox.errors import StepError

if TYPE_CHECKING:
    from pocket.sandbox.spec import ExecSpec
    from pocket.sandbox.tier import Tier

# What Docker keeps from containers. Only real root could use these; the owner of a user namespace never could.
_PROC_READONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_PROC_MASKED = ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list")
_PROC_FLAGS = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_MAX_LINKS = 40


@dataclass(slots=True)
class Root:
    """What was done to build the root; `mounted` is (real target, index of its overlay mount or None, path shown of it)."""

    stubs: list[str] = field(default_factory=list)
    mount_stubs: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mounted: list[tuple[str, int | None, str]] = field(default_factory=list)

    def made(self, path: str) -> None:
        """Record that `path` (real, absolute) had to be made, in the layer in which it really is."""
        above = [m for m in self.mounted if path.startswith(m[0].rstrip("/") + "/")]
        owner = max(reversed(above), key=lambda m: len(m[0]), default=None)
        if owner is None:
            self.stubs.append(path.lstrip("/"))
        elif owner[1] is not None:
            self.mount_stubs.append((owner[1], f"{owner[2]}/{path[len(owner[0].rstrip('/')) + 1 :]}".strip("/")))


@dataclass(frozen=True, slots=True)
class Ground:
    """What every root is built upon and no spec changes: detached /proc and /sys; /dev still lies in the workspace."""

    proc: int
    sys: int
    notes: tuple[str, ...]


def prepare(tier: Tier, *, insecure: bool) -> Ground:
    """Make what needs no spec. Needs fresh mount, pid, ipc and uts namespaces."""
    proc, notes = _proc(hidden=tier.name == "root" and not insecure)
    sources.devices(tier)
    return Ground(proc, linux.open_tree(workspace.SYS), notes)


def enter(spec: ExecSpec, tier: Tier, ground: Ground) -> Root:
    """Build the root and make it this process's only file system, and that of every process in this mount namespace."""
    sources.overlay(spec.lowers, spec.upper, spec.work, workspace.ROOT, tier)
    root = Root(notes=list(ground.notes))
    trees = [("/proc", ground.proc), ("/sys", ground.sys), ("/dev", sources.device_tree(spec))]
    trees += [("/etc/hosts", sources.generated(sources.hosts(spec))), ("/etc/resolv.conf", sources.generated(sources.resolv(spec)))]
    if tier.name == "single-uid" and os.path.isdir(f"{workspace.ROOT}/etc/apt/apt.conf.d"):
        # apt wants to drop to its user _apt, an id that does not exist in this namespace, and gives up.
        trees.append(("/etc/apt/apt.conf.d/00-single-uid", sources.generated(b'APT::Sandbox::User "root";\n')))
    mounts = [sources.source(m, index, tier) for index, m in enumerate(spec.mounts)]
    devices = [(path, sources.opened(path)) for path in spec.devices]
    _leave_host()
    for target, fd in trees:
        _attach(root, target, fd)
    for index, source in enumerate(mounts):
        _apply(root, spec, index, source)
    for path, fd in devices:
        _attach(root, path, fd)
    return root


def _leave_host() -> None:
    old = os.open("/", os.O_PATH | os.O_DIRECTORY)
    os.chdir(workspace.ROOT)
    linux.pivot_root(".", ".")
    os.fchdir(old)
    linux.umount(".")
    os.chdir("/")
    os.close(old)


def _proc(*, hidden: bool) -> tuple[int, tuple[str, ...]]:
    try:
        linux.mount("proc", workspace.PROC, "proc", _PROC_FLAGS)
    except PermissionError:
        # An outer container hides parts of its /proc, and the kernel does not let us show them in a fresh one.
        return linux.open_tree("/proc"), ("this machine allows no fresh /proc: the host's is shown, with the host's processes",)
    if hidden:
        _hide(workspace.PROC)
    return linux.open_tree(workspace.PROC), ()


def _hide(proc: str) -> None:
    for name in _PROC_READONLY:
        path = f"{proc}/{name}"
        if os.path.exists(path):
            fd = linux.open_tree(path)
            linux.mount_setattr(fd, linux.ATTR_RDONLY)
            linux.move_mount(fd, path)
            os.close(fd)
    for name in _PROC_MASKED:
        path = f"{proc}/{name}"
        if os.path.isdir(path):
            linux.mount("tmpfs", path, "tmpfs", linux.MS_RDONLY | _PROC_FLAGS, "size=0")
        elif os.path.exists(path):
            linux.mount("/dev/null", path, "", linux.MS_BIND)


def _apply(root: Root, spec: ExecSpec, index: int, fd: int | None) -> None:
    m = spec.mounts[index]
    shown = (index, m.subpath.strip("/")) if m.kind == "overlay" and m.upper and not m.readonly else (None, "")
    if fd is not None:
        _attach(root, m.target, fd, *shown)
        return
    target = _ensure(root, m.target, directory=True)
    size = "" if m.size is None else f",size={m.size}"
    mode = 0o1777 if m.mode is None else m.mode
    linux.mount("tmpfs", target, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"mode={mode:o}{size}")
    if m.uid or m.gid:
        _chown_if_possible(target, m.uid, m.gid)
    root.mounted.append((target, None, ""))


def _chown_if_possible(path: str, uid: int, gid: int) -> None:
    try:
        os.chown(path, uid, gid)
    except OSError:
        return  # an id that does not exist in this namespace; the tier's note says that owners are not enforced


def _attach(root: Root, target: str, fd: int, index: int | None = None, shown: str = "") -> None:
    real = _ensure(root, target, directory=stat.S_ISDIR(os.stat(fd).st_mode))
    try:
        linux.move_mount(fd, real)
    except OSError as error:
        raise StepError(f"cannot mount at {target}: {(error.strerror or '').lower()}") from error
    os.close(fd)
    root.mounted.append((real, index, shown))


def _ensure(root: Root, target: str, *, directory: bool) -> str:
    """Return the real path of a mount point, which is made when missing: also where a dangling link points to."""
    try:
        real = _made(root, "/" + target.strip("/"), directory, 0)
    except OSError as error:
        raise StepError(f"cannot mount at {target}: {(error.strerror or str(error)).lower()}") from error
    if directory != os.path.isdir(real):
        kinds = ("a directory", "a file") if directory else ("a file", "a directory")
        raise StepError(f"cannot mount {kinds[0]} at {target}: it is {kinds[1]}")
    return real


def _made(root: Root, path: str, directory: bool, depth: int) -> str:  # noqa: FBT001 - recursion, not an interface
    if os.path.exists(path):
        return os.path.realpath(path)
    if depth > _MAX_LINKS:
        raise OSError(40, "too many levels of symbolic links")
    parent = _made(root, os.path.dirname(path), True, depth + 1)
    path = f"{parent.rstrip('/')}/{os.path.basename(path)}"
    if os.path.islink(path):
        return _made(root, os.path.normpath(os.path.join(parent, os.readlink(path))), directory, depth + 1)
    if directory:
        os.mkdir(path, 0o755)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    root.made(path)
    return path
