"""Commands in containers, in every tier this machine has: exit codes, streams, users, what the command sees."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from sandbox_box import Box, Inside, tiers, why_not

if TYPE_CHECKING:
    from sandbox_box import Result


@pytest.fixture(scope="module", params=tiers())
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    box = Box(request.param)
    yield box
    box.close()


@pytest.fixture
def real_owners(box: Box) -> None:
    if box.name not in ("root", "subuid"):
        pytest.skip("only where more than one id exists")


def test_output_is_raw_and_apart(box: Box) -> None:
    done = box.sh("printf '  two  \\n\\n'; echo err >&2")
    assert (done.code, done.out, done.err) == (0, "  two  \n\n", "err\n")


def test_exit_code_is_the_commands(box: Box) -> None:
    assert box.sh("exit 7").code == 7


def test_death_by_signal_is_128_and_more(box: Box) -> None:
    done = box.sh("kill -9 $$")
    assert (done.code, done.outcome.oom) == (137, False)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("no-such-command", "x"), 'exec: "no-such-command": executable file not found in $PATH\n'),
        (("/etc/passwd",), "fork/exec /etc/passwd: permission denied\n"),
        (("/none",), "fork/exec /none: no such file or directory\n"),
        (("/bin",), "fork/exec /bin: permission denied\n"),
    ],
)
@pytest.mark.parametrize("no_init", [False, True])
def test_what_cannot_be_executed_says_so_and_ends_with_1(box: Box, argv: tuple[str, ...], message: str, no_init: bool) -> None:
    done = box.run(*argv, no_init=no_init)
    assert (done.code, done.out, done.err) == (1, "", message)


def test_a_file_without_a_format(box: Box) -> None:
    async def body(b: Inside) -> Result:
        (upper := b.fresh()).joinpath("f").write_text("no #! line")
        (upper / "f").chmod(0o755)
        return await b.run("/f", upper=str(upper))

    assert box.do(body).err == "fork/exec /f: exec format error\n"


def test_no_stdin_is_end_of_file(box: Box) -> None:
    assert box.sh("cat; echo end").out == "end\n"


def test_large_stdin_needs_no_feeding(box: Box) -> None:
    assert box.sh("sleep 0.1; wc -c", stdin=b"x" * 5_000_000).out.strip() == "5000000"


def test_environment_is_bare(box: Box) -> None:
    done = box.run("env")
    assert sorted(done.out.split()) == ["HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def test_declared_environment_wins_and_may_be_empty(box: Box) -> None:
    done = box.run("env", env=("PATH=/bin", "E=", "A=b=c", "HOME=/h"))
    assert sorted(done.out.split()) == ["A=b=c", "E=", "HOME=/h", "PATH=/bin"]


def test_user_by_name(box: Box) -> None:
    done = box.sh("id -u; id -g; echo $HOME", user="app")
    assert done.out.split() == ["1000", "1000", "/home/app"]


@pytest.mark.usefixtures("real_owners")
def test_supplementary_groups_come_from_the_container(box: Box) -> None:
    assert box.run("id", user="app").out == "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)\n"


@pytest.mark.usefixtures("real_owners")
def test_an_explicit_group_is_the_only_one(box: Box) -> None:
    assert box.run("id", user="1000:50").out == "uid=1000(app) gid=50(staff) groups=50(staff)\n"


def test_user_and_group_by_number(box: Box) -> None:
    assert box.sh("id -u; id -g", user="1234:staff").out.split() == ["1234", "50"]


def test_a_user_cannot_write_what_is_roots(box: Box) -> None:
    done = box.sh(
        "touch /etc/x 2>/dev/null && echo wrote; touch /tmp/x && echo tmp; mount -t tmpfs x /tmp 2>/dev/null || echo refused", user="app"
    )
    # With a single id every file belongs to it; the tier says that owners are recorded and not enforced.
    expected = ["tmp", "refused"] if box.name in ("root", "subuid") else ["wrote", "tmp", "refused"]
    assert done.out.split() == expected


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody-here", "get user: unable to find user nobody-here: no matching entries in passwd file"),
        ("app:nogroup-here", "get user: unable to find group nogroup-here: no matching entries in group file"),
    ],
)
def test_an_unknown_user_is_an_error_of_the_engine(box: Box, user: str, message: str) -> None:
    done = box.run("id", user=user)
    assert (done.code, done.outcome.error, done.out) == (-1, message, "")


def test_owner_is_told_where_the_disk_cannot_show_it(box: Box) -> None:
    owner = box.run("true", user="app").outcome.owner
    assert owner == (None if box.name in ("root", "subuid") else (1000, 1000))


def test_missing_working_directory_is_made_for_the_user(box: Box) -> None:
    done = box.sh("pwd; stat -c '%U %a' . ..", user="app", cwd="/made/up")
    assert done.out.split() == ["/made/up", "app", "755", "app", "755"]
    assert done.outcome.made_cwd == ("made", "made/up")


def test_a_file_as_working_directory_is_refused(box: Box) -> None:
    assert box.run("true", cwd="/etc/passwd").outcome.error == "chdir /etc/passwd: not a directory"


def test_redirects_are_opened_in_the_container_and_filled_by_the_caller(box: Box) -> None:
    done = box.sh("cat; echo e >&2", stdin=b"s", redirect_stdout="/o", redirect_stderr="tmp/e")
    assert (done.out, done.err) == ("s", "e\n")
    assert ((done.upper / "o").read_text(), (done.upper / "tmp/e").read_text()) == ("s", "e\n")


def test_redirect_of_stdin(box: Box) -> None:
    assert box.run("cat", redirect_stdin="passwd", cwd="/etc").out.startswith("root:x:0:0:")


def test_redirect_into_a_missing_directory_fails_before_the_workdir_is_made(box: Box) -> None:
    done = box.run("pwd", redirect_stdout="out", cwd="/w")
    assert (done.code, done.outcome.error) == (-1, "open redirect stdout file: open /w/out: no such file or directory")


def test_hostname(box: Box) -> None:
    assert (box.run("hostname").out, box.run("hostname", hostname="web").out) == ("dagger\n", "web\n")


def test_the_command_is_pid_1_only_without_init(box: Box) -> None:
    assert box.sh("[ $$ -ne 1 ] && echo child").out == "child\n"
    assert box.sh("echo $$", no_init=True).out == "1\n"


@pytest.mark.parametrize("no_init", [False, True])
def test_what_runs_in_the_background_does_not_hang_the_step(box: Box, no_init: bool) -> None:
    assert box.sh("sleep 300 & echo left", no_init=no_init).out == "left\n"


def test_what_runs_in_the_background_cannot_write_after_the_end(box: Box) -> None:
    async def body(b: Inside) -> None:
        await b.sh("sleep 0.2")

    done = box.sh("(trap '' TERM HUP; while :; do echo x >> /f; done) & while [ ! -s /f ]; do :; done")
    size = (done.upper / "f").stat().st_size
    assert size == (done.upper / "f").stat().st_size
    box.do(body)
    assert size == (done.upper / "f").stat().st_size


def test_orphans_are_reaped(box: Box) -> None:
    # The grandchild's parent ends first, so it becomes a child of pid 1, which has to collect it while the command still runs.
    script = "(sh -c 'exit 0' & echo $! > /tmp/p; exec sleep 0) ; while [ -d /proc/$(cat /tmp/p) ]; do :; done; echo gone"
    assert box.sh(script).out == "gone\n"


def test_umask(box: Box) -> None:
    assert box.sh("umask; touch /t; stat -c %a /t").out == "0022\n644\n"


def test_devices(box: Box) -> None:
    script = "head -c4 /dev/zero | wc -c; echo x > /dev/null; head -c2 /dev/urandom | wc -c; ls /dev/fd >/dev/null && echo fd"
    assert box.sh(script).out.split() == ["4", "2", "fd"]
    script = "[ -w /dev/shm ] && mkdir /dev/mine && : > /dev/mine/f && echo own; [ -c /dev/ptmx ] && echo pty"
    assert box.sh(script).out.split() == ["own", "pty"]


def test_dev_is_fresh_each_time(box: Box) -> None:
    box.sh("rm /dev/null; : > /dev/shm/left")
    assert box.sh("[ -c /dev/null ] && ls /dev/shm").out == ""


def test_proc_is_its_own(box: Box) -> None:
    assert box.sh("ls -d /proc/[0-9]* | wc -l").out.strip() in {"3", "4"}


def test_signals_that_python_ignores_are_default_again(box: Box) -> None:
    done = box.run("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    assert {line.split()[1] for line in done.out.splitlines()} == {"0000000000000000"}


def test_there_is_no_descriptor_but_the_streams(box: Box) -> None:
    # The fourth is the one with which ls reads the directory.
    assert len(box.sh("ls /proc/self/fd").out.split()) == 4


def test_there_is_no_terminal_to_type_into(box: Box) -> None:
    assert box.sh("cat /proc/self/stat | awk '{print $6 == $1 || $7 == 0}'; : < /dev/tty", no_init=True).err != ""


def test_the_first_process_cannot_be_looked_into(box: Box) -> None:
    done = box.sh("ls /proc/1/fd /proc/1/root 2>&1 | grep -ci 'permission denied'", user="app")
    assert int(done.out) >= 1


def test_capabilities_are_dockers_unless_insecure(box: Box) -> None:
    script = "grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/self/status | cut -f2"
    assert box.sh(script).out.split() == ["00000000a80425fb", "00000000a80425fb", "1"]
    effective, bounding, no_new_privs = box.sh(script, insecure=True).out.split()
    assert int(effective, 16) == int(bounding, 16) > 0xA80425FB
    assert no_new_privs == "0"


def test_a_user_has_no_capability(box: Box) -> None:
    assert box.sh("grep CapEff /proc/self/status | cut -f2", user="app").out.strip() == "0" * 16


def test_kernel_settings_cannot_be_changed(box: Box) -> None:
    done = box.sh("echo 1 > /proc/sys/kernel/sysrq && echo wrote; echo b > /proc/sysrq-trigger && echo wrote; mkdir /sys/x && echo wrote")
    assert done.out == ""


def test_chown_is_accepted_in_every_tier(box: Box) -> None:
    done = box.sh("touch /f; chown 1000:50 /f && chown -h 33 /f && stat -c %u:%g /f")
    assert done.code == 0
    assert done.out.strip() == ("33:50" if box.name in ("root", "subuid") else "0:0")


def test_time_limit(box: Box) -> None:
    done = box.run("sleep", "300", timeout=0.2)
    assert (done.code, done.outcome.timed_out) == (143, True)


def test_time_limit_kills_what_ignores_it(box: Box) -> None:
    done = box.sh("trap '' TERM; while :; do :; done", timeout=0.2, grace=0.1)
    assert (done.code, done.outcome.timed_out) == (137, True)


@pytest.mark.parametrize("no_init", [False, True])
def test_a_signal_reaches_the_command(box: Box, no_init: bool) -> None:
    async def body(b: Inside, no_init: bool) -> tuple[int, bytes]:
        script = "trap 'echo bye; exit 3' USR1; echo up; while :; do sleep 0.01; done"
        process, out = await b.until(b.spec("sh", "-c", script, no_init=no_init), b"up\n")
        process.signal(10)
        code = (await process.wait()).exit_code
        return code, os.read(out, 100)

    assert box.do(body, no_init) == (3, b"bye\n")


def test_terminate_then_kill(box: Box) -> None:
    async def body(b: Inside) -> int:
        script = "trap '' TERM; echo up; while :; do sleep 0.01; done"
        process, _ = await b.until(b.spec("sh", "-c", script, grace=0.1), b"up")
        process.terminate()
        return (await process.wait()).exit_code

    assert box.do(body) == 137


@pytest.mark.parametrize("no_init", [False, True])
def test_kill_ends_everything_at_once(box: Box, no_init: bool) -> None:
    async def body(b: Inside, no_init: bool) -> tuple[int, bool]:
        process, out = await b.until(b.spec("sh", "-c", "sleep 300 & echo up; sleep 300", no_init=no_init), b"up")
        process.kill()
        outcome = await process.wait()
        # End of file: no process of the container is left that holds the pipe.
        return outcome.exit_code, os.read(out, 1) == b""

    assert box.do(body, no_init) == (137, True)


def test_many_at_once(box: Box) -> None:
    async def body(b: Inside) -> list[str]:
        done = await asyncio.gather(*(b.sh(f"echo {n} > /f; cat /f") for n in range(12)))
        return [d.out.strip() for d in done]

    assert box.do(body) == [str(n) for n in range(12)]


def test_containers_that_start_at_once_share_generated_files(box: Box) -> None:
    """All of them are pid 1 of their own, and none takes the other's half-written file."""

    async def body(inside: Inside) -> set[str]:
        found: set[str] = set()
        for k in range(4):
            names = ((f"10.0.{k}.1", ("there",)),)
            done = await asyncio.gather(*(inside.sh("grep -c there /etc/hosts", hosts=names) for _ in range(8)))
            found |= {f"{r.code} {r.out}{r.outcome.error or ''}" for r in done}
        return found

    assert box.do(body) == {"0 1\n"}
