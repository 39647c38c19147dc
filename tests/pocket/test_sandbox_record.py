"""Owners that a step gives away where only one id exists: every form of the call, and what the notes say at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_box import Box, Result, tiers, why_not

SINGLE = [tier for tier in tiers() if tier in ("single-uid", "nobody", "own")]
PYTHON = Path("/usr/bin/python3")
CODE = Path(__file__).resolve().parents[2]
HELP = """
import ctypes, errno, os, sys
os.chdir("/tmp")
libc = ctypes.CDLL(None, use_errno=True)
CHOWN = {"x86_64": 92}.get(os.uname().machine)
def call(number, *args):
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def refused(work, *args, **kw):
    try:
        work(*args, **kw)
    except OSError as error:
        print(errno.errorcode[error.errno])
    else:
        print("done")
def make(name):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    open(name, "w").close()
"""


@pytest.fixture(scope="module", params=SINGLE)
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    made = Box(request.param)
    if made.sh("true").outcome.owner is None:
        made.close()
        pytest.skip("this user has more than one id")
    yield made
    made.close()


def notes(result: Result) -> dict[str, tuple[int, int]]:
    """Give what was noted, by path in the upper directory; every note must be of a file there."""
    assert result.code == 0, result.err
    by_inode = {inode: (uid, gid) for _, inode, _, uid, gid, _ in result.outcome.owners}
    return {
        str(p.relative_to(result.upper)): by_inode[p.lstat().st_ino]
        for p in sorted(result.upper.rglob("*"))
        if p.lstat().st_ino in by_inode
    }


def python(box: Box, code: str, **fields: Any) -> Result:
    """Run a Python program of the host in a container; skipped where it cannot be."""
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON}")

    async def body(inside: Any, text: str, given: dict[str, Any], code: str) -> Any:
        places = {f"/{name}": f"/{name}" for name in ("lib", "lib64", "usr") if Path("/", name).is_dir()} | {"/code": code}
        mounts = tuple(inside.mount(target=p, kind="bind", source=s, readonly=True) for p, s in places.items())
        return await inside.run("/usr/bin/python3", "-IS", "-c", text, mounts=mounts, **given)

    result: Result = box.do(body, HELP + code, fields, str(CODE))
    assert result.code == 0, result.err
    return result


def test_every_form_of_the_call(box: Box) -> None:
    """By path, by descriptor, by directory and name, with and without following links, with one id left as it is."""
    done = python(box, """
make("a"); make("b"); make("c"); make("d/e"); make("d/f"); make("g"); make("h"); make("i")
os.symlink("g", "link"); os.symlink("/tmp/h", "up")
os.chown("a", 1, 2)
os.lchown("link", 3, 4)
os.chown("up", 5, 6)
fd = os.open("b", os.O_RDONLY); os.fchown(fd, 7, 8)
d = os.open("d", os.O_RDONLY); os.chown("e", 9, 10, dir_fd=d); os.chown("../c", 11, 12, dir_fd=d)
os.chdir("d"); os.chown("f", 13, 14); os.chown("..//d/../i", -1, 15); os.chown("/tmp/i", 16, -1)
call(260, fd, b"", 17, 18, 0x1000) if os.uname().machine == "x86_64" else os.fchown(fd, 17, 18)
""")  # fmt: skip
    assert notes(done) == {
        "tmp/a": (1, 2), "tmp/b": (17, 18), "tmp/c": (11, 12), "tmp/d/e": (9, 10), "tmp/d/f": (13, 14), "tmp/h": (5, 6),
        "tmp/i": (16, 15), "tmp/link": (3, 4),
    }  # fmt: skip


def test_errors_are_those_of_the_call(box: Box) -> None:
    done = python(box, """
refused(os.chown, "none", 1, 1)
refused(os.chown, "none/deeper", 1, 1)
make("f"); refused(os.chown, "f/deeper", 1, 1)
os.symlink("loop", "loop"); refused(os.chown, "loop", 1, 1)
refused(os.chown, "x" * 300, 1, 1)
refused(os.chown, "", 1, 1)
refused(os.fchown, 77, 1, 1)
refused(os.chown, "/usr/bin/python3", 1, 1)
refused(call, CHOWN, ctypes.c_void_p(8), 1, 1) if CHOWN else print("EFAULT")
""")  # fmt: skip
    assert done.out.split() == ["ENOENT", "ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG", "ENOENT", "EBADF", "EROFS", "EFAULT"]
    assert notes(done) == {}


def test_what_is_no_file_of_the_container_is_accepted(box: Box) -> None:
    """Images give their streams, pipes and memory to a user."""
    done = python(box, """
r, w = os.pipe()
os.fchown(w, 5, 5)
for path in ("/dev/stdout", "/dev/null", "/dev/shm", "/proc/self/fd/1"):
    os.chown(path, 5, 5)
""")  # fmt: skip
    assert notes(done) == {}


def test_a_note_is_of_the_file_and_not_of_its_name(box: Box) -> None:
    """Renamed before, meanwhile and after; a further name; gone; its number used again; never had a name."""
    done = python(box, """
make("a"); os.chown("a", 1, 1); os.rename("a", "b"); os.link("b", "b2")
fd = os.open("c", os.O_CREAT | os.O_WRONLY); os.rename("c", "d"); os.fchown(fd, 2, 2)
for n in range(50):
    make("gone"); os.chown("gone", 3, 3); os.unlink("gone")
make("fresh")
fd = os.open("e", os.O_CREAT | os.O_WRONLY); os.link("e", "e2"); os.unlink("e"); os.fchown(fd, 4, 4)
make("cut (deleted)"); os.chown("cut (deleted)", 6, 6)
""")  # fmt: skip
    found = notes(done)
    found.pop("tmp/fresh", None)  # may have the number of one that is gone; the time of birth tells them apart
    assert found == {"tmp/b": (1, 1), "tmp/b2": (1, 1), "tmp/d": (2, 2), "tmp/e2": (4, 4), "tmp/cut (deleted)": (6, 6)}


def test_files_of_the_image_are_noted_by_their_copy(box: Box) -> None:
    assert notes(box.sh("chown 5:6 /etc/passwd /bin /bin/sh; mv /etc/group /etc/g; chown 7 /etc/g; chown -h 8:8 /bin/ls")) == {
        "bin": (5, 6), "bin/busybox": (5, 6), "bin/ls": (8, 8), "etc/passwd": (5, 6), "etc/g": (7, 0),
    }  # fmt: skip


def test_the_owner_that_a_program_saw_is_given_back_once(box: Box) -> None:
    """A second time it is meant, and so is one half of it."""
    done = box.sh("cd /tmp; for f in a b c d; do echo > $f; done; chown 0:0 a b c; chown 0:0 b; chown 0:5 c; chown 6:6 d; chown 0:0 d")
    assert notes(done) == {"tmp/a": (-2, -2), "tmp/b": (0, 0), "tmp/c": (0, 5), "tmp/d": (0, 0)}


def test_setuid_bits_go_with_the_owner(box: Box) -> None:
    """As without us: the kernel itself makes the change, to the one owner there is."""
    done = box.sh("cd /tmp; touch f; chmod 6755 f; stat -c %a f; chown 5 f; stat -c %a f")
    assert done.out == "6755\n755\n"


def test_threads_and_processes_at_once(box: Box) -> None:
    done = python(box, """
import threading
os.mkdir("m")
def work(k):
    for n in range(40):
        make(f"m/{k}-{n}"); os.chown(f"m/{k}-{n}", k, n + 1)
children = []
for base in (0, 10):
    if (pid := os.fork()) == 0:
        threads = [threading.Thread(target=work, args=(base + k,)) for k in range(5)]
        [t.start() for t in threads]; [t.join() for t in threads]
        os._exit(0)
    children.append(pid)
print(sum(os.waitpid(p, 0)[1] for p in children))
""")  # fmt: skip
    assert done.out == "0\n"
    assert notes(done) == {f"tmp/m/{b + k}-{n}": (b + k, n + 1) for b in (0, 10) for k in range(5) for n in range(40)}


def test_an_ordinary_user_gives_nothing_away(box: Box) -> None:
    done = python(box, """
make("f")
refused(os.chown, "f", 5, -1)
refused(os.chown, "f", -1, 5)
refused(os.chown, "f", 1000, 50)
print(os.getuid(), os.getgroups())
""", user="app")  # fmt: skip
    assert done.out.split("\n")[:4] == ["EPERM", "EPERM", "done", "1000 [50, 1000]"]
    assert notes(done) == {"tmp/f": (1000, 50)}


def test_groups_of_a_process(box: Box) -> None:
    """They are told as the image has them; setting them is accepted."""
    done = python(box, """
print(os.getgroups())
os.setgroups([1, 2])
array = (ctypes.c_uint * 1)()
print(libc.getgroups(0, None), libc.getgroups(1, array))
""")  # fmt: skip
    assert done.out == "[0]\n1 1\n"


@pytest.mark.parametrize("fields", [{}, {"no_init": True}, {"insecure": True}], ids=["plain", "no-init", "insecure"])
def test_every_kind_of_command_is_recorded(box: Box, fields: dict[str, bool]) -> None:
    done = box.sh("cd /tmp; echo > a; chown 3:4 a; chown 5 /dev/shm; true", **fields)
    assert notes(done) == {"tmp/a": (3, 4)}


def test_mounts_with_changes_of_their_own(box: Box) -> None:
    """Notes tell which mount they are of; a mount may show a part of its tree, or one file."""

    async def body(inside: Any) -> Any:
        lower = inside.fresh("lower")
        (lower / "sub").mkdir()
        (lower / "sub" / "f").write_text("x")
        (lower / "one").write_text("x")
        mounts = [
            inside.mount(
                target=target,
                kind="overlay",
                lowers=(str(lower),),
                subpath=subpath,
                upper=str(inside.fresh("u")),
                work=str(inside.fresh("w")),
            )
            for target, subpath in (("/mnt/m", ""), ("/mnt/m/part", "sub"), ("/mnt/file", "one"))
        ]
        script = (
            "cd /mnt; chown 1:1 m/one m; chown 2:2 m/part/f m/part; chown 3:3 file; echo > m/part/new; chown 4:4 m/part/new; chown 5:5 /mnt"
        )
        done = await inside.sh(script, mounts=tuple(mounts))
        uppers = [Path(m.upper) for m in mounts]
        by_mount: dict[int, dict[str, tuple[int, int]]] = {}
        for mount, inode, _, uid, gid, _ in done.outcome.owners:
            upper = done.upper if mount < 0 else uppers[mount]
            name = next(str(p.relative_to(upper)) for p in (upper, *upper.rglob("*")) if p.lstat().st_ino == inode)
            by_mount.setdefault(mount, {})[name] = uid, gid
        return done.err, by_mount

    err, found = box.do(body)
    assert err == ""
    assert found == {
        -1: {"mnt": (5, 5)}, 0: {".": (1, 1), "one": (1, 1)},
        1: {"sub": (2, 2), "sub/f": (2, 2), "sub/new": (4, 4)}, 2: {"one": (3, 3)},
    }  # fmt: skip


def test_devices_are_empty_files_with_a_note(box: Box) -> None:
    done = python(box, """
os.umask(0o027)
os.mknod("null", 0o20666, os.makedev(1, 3)); os.mknod("/tmp/sda", 0o60660, os.makedev(8, 0)); os.mknod("pipe", 0o10600)
refused(os.mknod, "null", 0o20666, os.makedev(1, 3))
refused(os.mknod, "none/null", 0o20666, os.makedev(1, 3))
refused(os.mknod, "white", 0o20666, os.makedev(0, 0))
os.chown("null", 0, 5)
print(oct(os.stat("null").st_mode), os.stat("null").st_size)
""")  # fmt: skip
    assert done.out == "EEXIST\nENOENT\nEPERM\n0o100640 0\n"
    assert {device: (uid, gid) for *_, uid, gid, device in done.outcome.owners} == {"c1:3": (0, 5), "b8:0": (-1, -1)}


def test_a_filter_around_ours_leaves_nobody_to_ask(box: Box) -> None:
    """There can be one listener only: within a container of ours changes are accepted, and forgotten."""
    outer = python(box, """
sys.path.insert(0, "/code")
from pocket.sandbox import command
from pocket.sandbox.tier import Tier
import resource
if os.fork() == 0:
    print(command.prepare(Tier(name="single-uid", ids=1), resource.getrlimit(resource.RLIMIT_NOFILE), insecure=False))
    make("f"); os.chown("f", 5, 5); print(os.getgroups(), flush=True)
    os._exit(0)
os.wait()
""")  # fmt: skip
    assert outer.out == "None\n[]\n"
    assert notes(outer) == {}


def test_the_end_of_the_watcher_is_the_end_of_the_command(box: Box) -> None:
    """Nobody is left waiting for an answer that cannot come."""

    async def body(inside: Any) -> tuple[int, bool]:
        spec = inside.spec("sh", "-c", "echo ready; while :; do chown 5:5 /tmp; done")
        process, _ = await inside.until(spec, b"ready")
        process.kill()
        outcome = await process.wait()
        return outcome.exit_code, outcome.owners == ()

    assert box.do(body) == (137, True)
