"""Run a function in a forked child that is in one of pocket's tiers, with a mount namespace of its own, and bring its result back.

tier root stays root; tier subuid gets a user namespace with a range of ids (which the parent, being root, may write); tier
single-uid is an ordinary user in a namespace with one id. A fork has one thread, whatever the test runner has.
"""

import ctypes
import os
import pickle
import pwd
import shutil
import subprocess
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pocket.store import Layer, Snapshot, Store

T = TypeVar("T")
_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWUSER, _NEWNS, _REC_PRIVATE, _DETACH = 0x10000000, 0x00020000, 0x44000, 2


def tiers() -> list[str]:
    """Name the tiers that this process can put a child into."""
    return ["root", "subuid", "single-uid"] if os.geteuid() == 0 else ["single-uid"]


@contextmanager
def folder(tier: str) -> Iterator[Path]:
    """Make a directory that the tier's user owns and can reach (pytest's own are closed to others)."""
    path = Path(tempfile.mkdtemp(prefix="pocket-test-"))
    if os.geteuid() == 0 and tier != "root":
        os.chown(path, *_ids(tier))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _ids(tier: str) -> tuple[int, int]:
    if tier == "subuid":
        return 100_000, 100_000
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def in_tier(tier: str, body: Callable[[], T]) -> T:
    """Run `body` in a child in the tier; return its picklable result. AssertionError with its traceback when it fails."""
    ready, go, result = os.pipe(), os.pipe(), os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: the child uses none of theirs
        pid = os.fork()
    if pid == 0:
        _child(tier, body, ready[1], go[0], result[1])
    for fd in (ready[1], go[0], result[1]):
        os.close(fd)
    os.read(ready[0], 1)
    if tier == "subuid":
        Path(f"/proc/{pid}/uid_map").write_text("0 100000 65536")
        Path(f"/proc/{pid}/gid_map").write_text("0 100000 65536")
    os.write(go[1], b"g")
    with os.fdopen(result[0], "rb") as f:
        answer = f.read()
    os.waitpid(pid, 0)
    for fd in (ready[0], go[1]):
        os.close(fd)
    good, value = pickle.loads(answer)
    assert good, value
    return value  # type: ignore[no-any-return]


def _child(tier: str, body: Callable[[], T], ready: int, go: int, result: int) -> None:
    answer: tuple[bool, object]
    try:
        answer = _entered(tier, body, ready, go)
    except BaseException:  # noqa: BLE001 - whatever it is belongs to the parent
        answer = (False, traceback.format_exc())
    with os.fdopen(result, "wb") as f:
        f.write(pickle.dumps(answer))
    os._exit(0)


def _entered(tier: str, body: Callable[[], T], ready: int, go: int) -> tuple[bool, T]:
    if tier == "root":
        _check(_LIBC.unshare(_NEWNS))
        os.write(ready, b"r")
    elif tier == "subuid":
        _check(_LIBC.unshare(_NEWUSER | _NEWNS))
        os.write(ready, b"r")
        os.read(go, 1)
        os.setgid(0)
        os.setuid(0)
    else:
        if os.geteuid() == 0:
            uid, gid = _ids(tier)
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            _LIBC.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: or uid_map would belong to root
        uid, gid = os.getuid(), os.getgid()
        _check(_LIBC.unshare(_NEWUSER | _NEWNS))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        os.write(ready, b"r")
    _check(_LIBC.mount(b"none", b"/", None, _REC_PRIVATE, None))
    os.umask(0o022)
    return True, body()


@contextmanager
def mounted(store: Store, lower: Snapshot) -> Iterator[tuple[Path, Path]]:
    """Mount a snapshot with a fresh upper; yield the mount point and the upper, which stays."""
    place = store.tmp()
    for name in ("work", "merged", "empty"):
        (place / name).mkdir()
    store.make_upper(place / "upper", lower)
    lowers = ":".join(str(layer.path) for layer in reversed(lower.layers)) or str(place / "empty")
    options = "index=off,metacopy=off," + ("" if store.tier == "root" else "userxattr,")
    data = f"{options}lowerdir={lowers},upperdir={place}/upper,workdir={place}/work".encode()
    _check(_LIBC.mount(b"overlay", bytes(place / "merged"), b"overlay", 0, data))
    try:
        yield place / "merged", place / "upper"
    finally:
        _check(_LIBC.umount2(bytes(place / "merged"), _DETACH))


def step(store: Store, lower: Snapshot, script: str, *, drop: tuple[str, ...] = ()) -> Layer | None:
    """Run a shell script on a snapshot, as an exec would, and commit what it wrote."""
    with mounted(store, lower) as (root, upper):
        subprocess.run(["/bin/sh", "-ec", script], cwd=root, check=True)
    return store.commit_upper(upper, lower, drop=drop)
