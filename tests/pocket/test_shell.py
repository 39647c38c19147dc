"""`pocket shell`: a command in a throw-away container, in a pipe and on a real terminal."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminals import Terminal, on_terminal

POCKET = (sys.executable, "-m", "pocket")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def piped(cache: Path, *argv: str, given: str = "", **env: str) -> "subprocess.CompletedProcess[str]":
    """Run `pocket shell` without a terminal."""
    environment = {**os.environ, "POCKET_CACHE": str(cache), **env}
    return subprocess.run([*POCKET, "shell", *argv], input=given, capture_output=True, text=True, check=False, env=environment, timeout=300)


def test_streams_and_exit_code_are_the_commands(cache: Path, base_archive: Path) -> None:
    done = piped(cache, str(base_archive), "--", "sh", "-c", "cat; echo warned >&2; exit 7", given="through a pipe\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "through a pipe\n", "warned\n")


def test_a_command_need_not_be_given(cache: Path, base_archive: Path) -> None:
    done = piped(cache, str(base_archive), given="echo from the shell; exit 3\n")
    assert (done.returncode, done.stdout) == (3, "from the shell\n")


def test_settings_of_the_image_and_of_the_caller(cache: Path, base_archive: Path) -> None:
    options = ("-u", "app", "-w", "/tmp/new", "-e", "GIVEN=one two", "--env", "TAKEN")
    done = piped(cache, *options, str(base_archive), "--", "sh", "-c", "id -un; pwd; echo $GIVEN, $TAKEN, $HOME", TAKEN="mine")
    assert done.stdout.splitlines() == ["app", "/tmp/new", "one two, mine, /home/app"]


def test_a_reference_may_be_an_archive_that_stands_in(cache: Path, base_archive: Path) -> None:
    done = piped(cache, "base:1", "--", "cat", "/etc/base-release", POCKET_IMAGE_ARCHIVES=f"base:1={base_archive}")
    assert done.stdout == "conformance 1\n"


def test_nothing_is_left(cache: Path, base_archive: Path) -> None:
    before = sorted(p.name for p in (cache / "v1/layers").iterdir())
    assert piped(cache, str(base_archive), "--", "sh", "-c", "head -c 100000 /dev/zero > /f").returncode == 0
    assert piped(cache, str(base_archive), "--", "test", "-e", "/f").returncode == 1
    assert sorted(p.name for p in (cache / "v1/layers").iterdir()) == before
    assert not list((cache / "v1/tmp").iterdir())


@pytest.mark.parametrize(("argv", "code", "said"), [
    ((), 2, "usage: pocket shell"), (("--nope", "x"), 2, "--nope"),
    (("Not an image",), 1, "invalid reference format"),
    (("BASE", "--", "no-such-program"), 1, "executable file not found"),
    (("-u", "nobody-here", "BASE", "--", "true"), 1, "unable to find user nobody-here"),
    (("-w", "/etc/passwd/x", "BASE", "--", "true"), 1, "/etc/passwd"),
])  # fmt: skip
def test_what_cannot_be_done_is_told(cache: Path, base_archive: Path, argv: tuple[str, ...], code: int, said: str) -> None:
    done = piped(cache, *(str(base_archive) if a == "BASE" else a for a in argv))
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def terminal(cache: Path, base_archive: Path) -> Iterator[Terminal]:
    """Sit before a shell in the small image; its prompt is `$` and a space."""
    environment = {**os.environ, "POCKET_CACHE": str(cache), "TERM": "vt100"}
    with on_terminal(*POCKET, "shell", "-e", "PS1=ready> ", str(base_archive), env=environment, rows=30, columns=100) as terminal:
        terminal.wait_for("ready> ")
        yield terminal


def answer(terminal: Terminal, command: str) -> str:
    """Type a command; give what it prints."""
    terminal.type(f"{command}\r")
    terminal.wait_for("\r\n")
    return terminal.wait_for("ready> ").replace("\r\n", "\n").strip()


def test_a_terminal_of_the_containers_own(terminal: Terminal) -> None:
    assert answer(terminal, "test -t 0 && test -t 1 && test -t 2 && readlink /proc/self/fd/0") == "/dev/pts/0"
    assert answer(terminal, "echo $TERM; echo seen > /dev/tty") == "vt100\nseen"
    terminal.type("exit 7\r")
    assert terminal.end() == 7


def test_the_window_has_the_size_of_the_users(terminal: Terminal) -> None:
    assert answer(terminal, "busybox stty size") == "30 100"
    terminal.resize(50, 132)
    terminal.type("while [ \"$(busybox stty size)\" != '50 132' ]; do :; done; echo gr''own\r")
    terminal.wait_for("grown")


def test_keys_that_interrupt_and_end(terminal: Terminal) -> None:
    terminal.type("sh -c 'echo beg\"\"un; sleep 1000'\r")  # a shell of its own: it is in the foreground when it speaks
    terminal.wait_for("begun")
    terminal.type("\x03")
    terminal.wait_for("ready> ")
    assert answer(terminal, "echo $?") == "130"
    terminal.type("\x04")
    assert terminal.end() == 0


def test_the_users_terminal_is_given_back(cache: Path, base_archive: Path) -> None:
    script = (
        f'before=$(stty -g); "$0" -m pocket shell "{base_archive}" -- sh -c "echo in; read x"; [ "$(stty -g)" = "$before" ] && echo same'
    )
    with on_terminal("sh", "-c", script, sys.executable, env={**os.environ, "POCKET_CACHE": str(cache)}) as terminal:
        terminal.wait_for("in\r\n")
        terminal.type("\r")
        terminal.wait_for("same")
        assert terminal.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_shell_that_is_told_to_end_ends(terminal: Terminal, number: int) -> None:
    terminal.process.send_signal(number)
    assert terminal.end() in (128 + signal.SIGHUP, 128 + signal.SIGTERM)


def test_much_output_and_many_keys(terminal: Terminal) -> None:
    """All of it comes, in both directions, also what the other side does not take at once."""
    assert len(answer(terminal, "seq 1 50000").splitlines()) == 50000
    terminal.type("busybox stty -echo -icanon; echo rea''dy; head -c 60000 | wc -c\r")
    terminal.wait_for("ready\r\n")
    for _ in range(60):
        terminal.type("k" * 1000)
    assert terminal.wait_for("ready> ").strip() == "60000"
