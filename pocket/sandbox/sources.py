"""Mounts that exist but are not in the container yet: overlays, /dev, generated files, secrets, what the host gives.

Everything here runs in the container's own mount namespace, before pivot_root, and returns descriptors of mounts that are
attached to their targets afterwards (`pocket.sandbox.rootfs`).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pocket.sandbox import linux, workspace
from pocket.sandbox.errors import SandboxError, StepError

if TYPE_CHECKING:
    from pocket.sandbox.spec import ExecSpec, Mount
    from pocket.sandbox.tier import Tier

_NODES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
_NOTHING = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


def overlay(lowers: tuple[str, ...], upper: str | None, work: str | None, target: str, tier: Tier) -> None:
    """Mount an overlay at `target`.

    Directories are named by descriptor relative to /proc/self/fd: the option page holds 4095 bytes, which 500 such names fit and
    40 real paths may not, and no character needs escaping.
    """
    below = [_directory(path) for path in (*lowers, *(() if lowers and upper else (workspace.EMPTY,)))]
    options = ["lowerdir=" + ":".join(map(str, below)), "index=off", "metacopy=off"]
    above: list[int] = []
    if upper and work:
        above = [_directory(upper), _directory(work)]
        # volatile: the upper is committed once and synced then; a sync for each file of a package manager would cost minutes.
        options += [f"upperdir={above[0]}", f"workdir={above[1]}", "volatile"]
    if tier.userxattr:
        options.append("userxattr")  # without it, removing a directory of a lower layer fails halfway with EIO
    os.chdir("/proc/self/fd")
    try:
        linux.mount("overlay", target, "overlay", 0 if above else linux.MS_RDONLY, ",".join(options))
    except OSError as error:
        raise _overlay_refused(error, upper or lowers[0], len(below)) from error
    finally:
        os.chdir("/")
        for fd in (*below, *above):
            os.close(fd)


def _overlay_refused(error: OSError, where: str, layers: int) -> SandboxError:
    if error.errno == errno.EINVAL and layers > 500:
        return SandboxError(f"a container of {layers} layers: overlayfs takes 500", hint="flatten the image")
    if error.errno == errno.ELOOP:
        return SandboxError(f"overlayfs refuses {where}: its directories overlap")
    if error.errno == errno.ENODEV:
        return SandboxError("this kernel has no overlayfs", hint="modprobe overlay (as root), or use another engine: --engine dagger")
    return SandboxError(
        f"overlayfs cannot be used on the file system of the cache, {where} ({os.strerror(error.errno or 0)}): "
        "an overlay (a container's own root), NFS and Lustre are refused by the kernel",
        hint="set POCKET_CACHE (or WEIGHBRIDGE_CACHE) to a directory on a local disk, a volume or a tmpfs such as /dev/shm",
    )


def _directory(path: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise SandboxError(f"a layer directory cannot be opened: {path}: {error.strerror}") from error


def devices(tier: Tier) -> None:
    """Build /dev; the mode of its tmpfs is 0755 because under a sticky, world-writable one /dev/null cannot be opened for writing."""
    dev = workspace.DEV
    linux.mount("tmpfs", dev, "tmpfs", linux.MS_NOSUID, "mode=0755,size=65536k")
    for name in _NODES:
        os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        linux.mount(f"/dev/{name}", f"{dev}/{name}", "", linux.MS_BIND)
    for name, target in _LINKS.items():
        os.symlink(target, f"{dev}/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{dev}/{name}", 0o755)
    # gid 5 (tty) does not exist in a namespace with a single id, and naming it is then EINVAL.
    tty = "" if tier.name == "single-uid" else ",gid=5"
    linux.mount("devpts", f"{dev}/pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, f"newinstance,ptmxmode=0666,mode=0620{tty}")
    linux.mount("mqueue", f"{dev}/mqueue", "mqueue", _NOTHING)


def device_tree(spec: ExecSpec) -> int:
    """Return /dev, with a /dev/shm of the size asked for."""
    size = "" if spec.shm_size is None else f",size={spec.shm_size}"
    linux.mount("tmpfs", f"{workspace.DEV}/shm", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"mode=1777{size}")
    return linux.open_tree(workspace.DEV)


def hosts(spec: ExecSpec) -> bytes:
    """Return the content of /etc/hosts."""
    lines = [f"127.0.0.1\tlocalhost {spec.hostname}", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{' '.join(names)}" for address, names in spec.hosts]
    return "".join(line + "\n" for line in lines).encode()


def resolv(spec: ExecSpec) -> bytes:
    """Return the content of resolv.conf: a copy, because a bind of the host's file would keep the inode that its owner replaces."""
    if spec.resolv is not None:
        return spec.resolv
    try:
        with open("/etc/resolv.conf", "rb") as file:
            content = file.read()
    except OSError:
        return b""
    if spec.netns == "host":
        return content
    # A resolver on the host's loopback (127.0.0.53, ::1) cannot be reached from another network namespace.
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith((b"nameserver 127.", b"nameserver ::1")))


def generated(content: bytes) -> int:
    """Return a read-only mount of a file with this content."""
    fd = linux.open_tree(workspace.etc_file(content))
    linux.mount_setattr(fd, linux.ATTR_RDONLY | linux.ATTR_NOSUID | linux.ATTR_NODEV)
    return fd


def opened(path: str) -> int:
    """Return a copy of what is mounted at a path of the host, with everything below it."""
    try:
        return linux.open_tree(path)
    except OSError as error:
        raise StepError(f"cannot mount {path}: {(error.strerror or '').lower()}") from error


def source(m: Mount, index: int, tier: Tier) -> int | None:
    """Return a mount, not yet attached anywhere, for one of the spec's mounts; None for a tmpfs, which has no source."""
    if m.kind == "tmpfs":
        return None
    if m.kind == "bind":
        fd = opened(m.source or "")
    elif m.kind == "file":
        fd = _memory_file(m, index, tier)
    else:
        fd = _overlay_source(m, index, tier)
    if m.readonly:
        linux.mount_setattr(fd, linux.ATTR_RDONLY)
    return fd


def _overlay_source(m: Mount, index: int, tier: Tier) -> int:
    point = f"{workspace.MOUNTS}/{index}"
    os.makedirs(point, exist_ok=True)
    if m.readonly and not m.lowers:
        return linux.open_tree(workspace.EMPTY)  # an overlay of one directory is refused
    overlay(m.lowers, None if m.readonly else m.upper, m.work, point, tier)
    if not m.subpath:
        return linux.open_tree(point)
    root = os.open(point, os.O_PATH | os.O_DIRECTORY)
    try:
        inside = linux.open_in_root(root, m.subpath, os.O_PATH)
        tree = linux.open_tree("", dirfd=inside)
        os.close(inside)
    except OSError as error:
        raise StepError(f"{m.subpath}: {(error.strerror or '').lower()}") from error
    finally:
        os.close(root)
    return tree


def _memory_file(m: Mount, index: int, tier: Tier) -> int:
    if not os.path.ismount(workspace.FILES):
        linux.mount("tmpfs", workspace.FILES, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755")
    path = f"{workspace.FILES}/{index}"
    with open(path, "wb") as file:
        file.write(m.content or b"")
    if tier.name != "single-uid":
        os.chown(path, m.uid, m.gid)
    os.chmod(path, 0o400 if m.mode is None else m.mode)
    return linux.open_tree(path)
