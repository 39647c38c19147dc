"""Which privileges the engine has on this machine, decided once: root, a range of subordinate ids, or a single id.

root: real root with CAP_SYS_ADMIN, no user namespace. subuid: a user namespace with 0 → the user and 1… → the user's subordinate
ids. single-uid: a user namespace in which only 0 exists; owners are then data of the store, not of the disk. The process enters
the namespace itself, so it must have one thread; all later namespaces belong to this one.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from pocket.sandbox import linux
from pocket.sandbox.errors import SandboxError

TierName = Literal["root", "subuid", "single-uid"]
_NAMES = ("root", "subuid", "single-uid")
_CAP_SYS_ADMIN = 21
_SYSCTLS = Path("/proc/sys")
_ROOT_RANGE = (100_000, 65_536)  # what distributions give the first user; for root without an entry of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """The tier in use. `ids` is how many user ids exist in it; `note` says why a better tier was not taken, `remedy` what to change."""

    name: TierName
    ids: int
    note: str = ""
    remedy: str = ""

    @property
    def userxattr(self) -> bool:
        """Tell whether overlayfs keeps its marks in user.overlay.*, as it must in a user namespace."""
        return self.name != "root"


def enter_tier(forced: str | None = None) -> Tier:
    """Choose the best tier (or the one that `forced` or POCKET_TIER names) and enter it.

    Raises SandboxError with cause and remedy when the machine refuses the namespace. Call it once, with a single thread.
    """
    wanted = forced or os.environ.get("POCKET_TIER", "")
    if wanted and wanted not in _NAMES:
        raise SandboxError(f"POCKET_TIER is {wanted!r}, which is no tier", hint=f"use one of: {', '.join(_NAMES)}")
    admin = bool(linux.capabilities() >> _CAP_SYS_ADMIN & 1) and os.geteuid() == 0
    if wanted == "root" and not admin:
        raise SandboxError("the root tier needs root with CAP_SYS_ADMIN", hint="unset POCKET_TIER, or run as root")
    if admin and wanted in ("", "root"):
        return _existing()
    return _enter(single=wanted == "single-uid", must=wanted == "subuid")


def _existing() -> Tier:
    """Name the tier of a process that is root already, here or in a user namespace somebody made around it."""
    ids = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())
    if ids >= 2**32 - 1:
        return Tier(name="root", ids=ids)
    # Root of a container engine's user namespace: trusted.* attributes are refused there, as in a namespace of our own.
    remedy = "" if ids > 1 else "make the namespace around pocket with a range of ids, or run pocket outside it"
    return Tier(name="subuid" if ids > 1 else "single-uid", ids=ids, note="inside a user namespace that was there before", remedy=remedy)


def _enter(*, single: bool, must: bool) -> Tier:
    uid, gid = os.geteuid(), os.getegid()
    if single:
        _unshare_user()
        _map_single(uid, gid)
        return Tier(name="single-uid", ids=1, note="POCKET_TIER asks for it", remedy="unset POCKET_TIER")
    ranges, note, remedy = _ranges(uid)
    if ranges is None:
        if must:
            raise _no_subuid(note, remedy)
        _unshare_user()
        _map_single(uid, gid)
        return Tier(name="single-uid", ids=1, note=note, remedy=remedy)
    problem = _map_ranges(uid, gid, ranges)
    remedy = "newuidmap and newgidmap must be setuid root (or have the capability), also in containers: no --security-opt no-new-privileges"
    if problem and must:
        raise _no_subuid(problem, remedy)
    if problem:
        _map_single(uid, gid)
        return Tier(name="single-uid", ids=1, note=problem, remedy=remedy)
    return Tier(name="subuid", ids=1 + ranges[0][1])


def _no_subuid(note: str, remedy: str) -> SandboxError:
    return SandboxError(f"the subuid tier cannot be used: {note}", hint=f"{remedy}; or unset POCKET_TIER to fall back to a single id")


def _ranges(uid: int) -> tuple[tuple[tuple[int, int], tuple[int, int]] | None, str, str]:
    """Return the user's subordinate (uid range, gid range), "" and ""; or None, what is missing and what to do."""
    import shutil  # only here: not every tier needs it, and every session waits for what is loaded

    root = uid == 0
    missing = [name for name in ("newuidmap", "newgidmap") if shutil.which(name) is None]
    if missing and not root:
        return None, f"{missing[0]} is not in PATH", "install it (Debian, Ubuntu: apt install uidmap; Fedora: shadow-utils)"
    uids, gids = (subordinate(Path("/etc", kind), uid) or (_ROOT_RANGE if root else None) for kind in ("subuid", "subgid"))
    if uids is not None and gids is not None:
        return (uids, gids), "", ""
    absent = [kind for kind, span in (("subuid", uids), ("subgid", gids)) if span is None]
    add = " ".join(f"--add-{kind}s 100000-165535" for kind in absent)
    files = " and ".join(f"/etc/{kind}" for kind in absent)
    return None, f"no subordinate ids for {_name(uid)} in {files}", f"usermod {add} {_name(uid)} (as root; any ranges that are free)"


def _name(uid: int) -> str:
    import pwd  # as above

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def subordinate(path: Path, uid: int) -> tuple[int, int] | None:
    """Return the first (start, count) that /etc/subuid or /etc/subgid, given as `path`, gives a user; None without one."""
    names = {str(uid), _name(uid)}
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            return int(fields[1]), int(fields[2])
    return None


def _map_ranges(uid: int, gid: int, ranges: tuple[tuple[int, int], tuple[int, int]]) -> str:
    """Enter a user namespace and have a child that stayed outside write its maps; return what went wrong, or ""."""
    ready_r, ready_w = os.pipe()
    answer_r, answer_w = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(ready_w)
        os.read(ready_r, 1)
        try:
            problem = _write_maps(parent, uid, gid, ranges)
        except OSError as error:
            problem = str(error)
        os.write(answer_w, problem.encode()[:4000])
        os._exit(0)
    os.close(answer_w)
    os.close(ready_r)
    try:
        _unshare_user()
    finally:
        os.close(ready_w)  # end of file is the signal to go on
    problem = os.read(answer_r, 4096).decode()
    os.close(answer_r)
    os.waitpid(child, 0)
    return problem


def _write_maps(pid: int, uid: int, gid: int, ranges: tuple[tuple[int, int], tuple[int, int]]) -> str:
    import subprocess  # as above

    for kind, own, (first, count) in (("uid", uid, ranges[0]), ("gid", gid, ranges[1])):
        if uid == 0:
            Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {own} 1\n1 {first} {count}\n")
            continue
        argv = [f"new{kind}map", str(pid), "0", str(own), "1", "1", str(first), str(count)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        except subprocess.SubprocessError as error:
            return str(error)
        if done.returncode:
            return f"{argv[0]} failed: {done.stderr.strip()}"
    return ""


def _unshare_user() -> None:
    try:
        linux.unshare(linux.CLONE_NEWUSER)
    except OSError as error:
        raise userns_refused(error) from error
    # A process that changed its credentials may be undumpable, and then its maps cannot be written.
    linux.prctl(linux.PR_SET_DUMPABLE, 1)


def _map_single(uid: int, gid: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1\n")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1\n")


def userns_refused(error: OSError) -> SandboxError:
    """Return the error for a refused user namespace, with its cause and remedy on this machine."""
    message, hint = "this machine refuses user namespaces", "run as root, or use another engine: --engine dagger"
    if error.errno == errno.ENOSPC:
        message = "no further user namespace is allowed: user.max_user_namespaces is reached or nesting is too deep"
        hint = "sysctl -w user.max_user_namespaces=15000 (as root)"
    elif error.errno == errno.EINVAL and len(os.listdir("/proc/self/task")) > 1:
        message, hint = "a user namespace can only be entered while the process has a single thread", "enter the tier first"
    elif error.errno == errno.EINVAL:
        message = "this kernel has no user namespaces (CONFIG_USER_NS)"
    elif _sysctl("kernel/unprivileged_userns_clone") == "0":
        message, hint = f"{message}: kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1 (as root)"
    elif _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        message = f"{message}: AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns is 1)"
        hint = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (as root), or give the Python interpreter a profile with userns"
    else:
        hint = "inside a container, allow it (docker: --security-opt seccomp=unconfined); else " + hint
    return SandboxError(f"{message} ({cast('str', error.strerror)})", hint=hint)


def _sysctl(name: str) -> str:
    try:
        return (_SYSCTLS / name).read_text().strip()
    except OSError:
        return ""
