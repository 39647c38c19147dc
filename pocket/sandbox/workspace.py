"""The forkserver's own mount namespace: a small tmpfs, made once, with what every container starts from.

It covers /sys (every machine has that directory, and it has to be made ready for containers anyway), so that no directory has to
be made on, or cleaned up from, a disk. Below it: `sys` the host's /sys, read-only with what Docker masks hidden; `root` and `m`
mount points; `dev` and `proc` mount points; `etc` generated files by content; `empty` an empty directory.
A container inherits all of it as a copy when its mount namespace is made, and copies what it needs into its root.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

from pocket.sandbox import linux

BASE = "/sys"
_NAMES = ("sys", "root", "dev", "proc", "etc", "empty", "m", "files")
SYS, ROOT, DEV, PROC, ETC, EMPTY, MOUNTS, FILES = (f"{BASE}/{name}" for name in _NAMES)
_MASKED = ("firmware", "devices/virtual/powercap")


def make() -> None:
    """Enter a mount namespace and fill the workspace; OSError when the machine refuses."""
    linux.unshare(linux.CLONE_NEWNS)
    # Not private: what is unmounted on the host must not stay busy because of us. Nothing goes the other way.
    linux.mount("", "/", "", linux.MS_REC | linux.MS_SLAVE)
    sys_tree = linux.open_tree("/sys")  # only a recursive copy is allowed: parts of it are locked in a user namespace
    linux.mount("tmpfs", BASE, "tmpfs", linux.MS_NOSUID, "mode=0755")
    linux.mount("", BASE, "", linux.MS_PRIVATE)
    for name in _NAMES:
        os.mkdir(f"{BASE}/{name}", 0o755)
    linux.move_mount(sys_tree, SYS)
    for name in _MASKED:
        with suppress(OSError):  # not every machine has them
            linux.mount("tmpfs", f"{SYS}/{name}", "tmpfs", linux.MS_RDONLY, "size=0")
    linux.mount_setattr(sys_tree, linux.ATTR_RDONLY | linux.ATTR_NOSUID | linux.ATTR_NODEV | linux.ATTR_NOEXEC)
    os.close(sys_tree)


def etc_file(content: bytes) -> str:
    """Return the path of a generated file with this content; it is shared, so mount it read-only."""
    path = f"{ETC}/{hashlib.sha256(content).hexdigest()[:32]}"
    if not os.path.exists(path):
        fresh = f"{path}.{os.urandom(8).hex()}"  # not our pid: that is 1 in every container, and they share this directory
        with open(fresh, "wb") as file:
            file.write(content)
        os.chmod(fresh, 0o644)
        with suppress(FileExistsError):  # and no rename: who has just opened the other's file could not mount it any more
            os.link(fresh, path)
        os.unlink(fresh)
    return path
