"""The session process: what an SDK relies on, who may ask, and that nothing of it stays however it ends."""

import base64
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import in_container, left_over, tree_of, wait_until
from sessions import Session, Step, query_of

from pocket import session as module
from pocket.errors import PocketError

SLEEP: tuple[Step, ...] = (("withExec", {"args": ["sh", "-c", "echo started; sleep 300"]}), "stdout")


def test_the_line_holds_the_port_and_the_token_and_nothing_else(shared_session: Session) -> None:
    """One more key would be a TypeError in the SDK."""
    assert shared_session.said.keys() == {"port", "session_token"}
    assert shared_session.port > 0


@pytest.mark.parametrize("token", ["", "wrong", "x" * 10_000])
def test_who_has_not_the_token_learns_nothing(shared_session: Session, token: str) -> None:
    status, headers, body = shared_session.post(b'{"query":"{version}"}', token=token)
    assert (status, body) == (401, b"")
    assert headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("body", [b"", b"garbage", b"[]", b'{"query": 1}', b'{"q": ""}', b"\xff\x00"])
def test_a_body_that_is_no_query_is_refused_in_graphqls_form(shared_session: Session, body: bytes) -> None:
    status, _, answer = shared_session.post(body)
    assert status == 400
    assert json.loads(answer)["errors"][0]["locations"] == []
    assert shared_session.value("version")


def test_another_path_is_not_found(shared_session: Session) -> None:
    assert shared_session.post(b"{}", path="/other")[0] == 404


def test_a_query_with_a_query_string_and_variables(shared_session: Session) -> None:
    body = {"query": "query($p: String!) { directory { withNewDirectory(path: $p) { entries } } }", "variables": {"p": "d"}}
    status, _, answer = shared_session.post(json.dumps(body).encode(), path="/query?a=b")
    assert (status, json.loads(answer)["data"]["directory"]["withNewDirectory"]["entries"]) == (200, ["d/"])


def test_requests_at_once(shared_session: Session) -> None:
    def ask(n: int) -> object:
        return shared_session.value("directory", ("withNewFile", {"path": f"f{n}", "contents": ""}), "entries")

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(64))) == [[f"f{n}"] for n in range(64)]


def test_text_beyond_ascii_arrives(shared_session: Session) -> None:
    text = 'é \U0001f600 \u2028 \\ " \x7f'
    steps = (("withNewFile", {"path": "f", "contents": text}), ("file", {"path": "f"}), "contents")
    assert shared_session.value("directory", *steps) == text


def test_what_the_sdks_say_on_the_command_line_is_understood(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "here").touch()
    labels = ("--label", "dagger.io/sdk.name:python", "--label", "dagger.io/sdk.version:1")
    flags = ("--workdir", str(tmp_path / "w"), "--project", str(tmp_path), "--load-workspace-modules", "--version", "v1")
    with Session(tmp_path / "cache", *labels, *flags) as session:
        assert session.value("host", ("directory", {"path": "."}), "entries") == ["here"]


def test_options_are_read() -> None:
    here = Path.cwd()
    assert module.workdir_of([]) == here
    assert module.workdir_of(["--workdir=/tmp", "--label", "--workdir"]) == Path("/tmp")
    assert module.workdir_of(["--label", "x", "-v", "--workdir", "/", "--progress"]) == Path("/")
    with pytest.raises(PocketError, match="/no/such does not exist"):
        module.workdir_of(["--workdir", "/no/such"])


def test_what_cannot_start_says_why_and_prints_no_line(tmp_path: Path) -> None:
    session = Session(tmp_path / "cache", "--workdir", str(tmp_path / "absent"))
    code, said = session.end()
    assert session.said == {}
    assert code == 1
    assert "does not exist" in said


def test_a_cache_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    session = Session(tmp_path / "file" / "cache")
    code, said = session.end()
    assert code == 1
    assert said.startswith("pocket: ")
    assert len(said.strip().splitlines()) >= 2


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order(tmp_path: Path, number: int | None) -> None:
    session = Session(tmp_path / "cache")
    session.value("version")
    code, said = session.end(number)
    assert code == 0
    assert "Traceback" not in said
    assert not left_over(tmp_path)


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_runs_ends_with_the_session(tmp_path: Path, base_archive: Path, number: int | None) -> None:
    """Neither process nor mount nor scratch directory stays, even when the session is killed."""
    session = Session(tmp_path / "cache")
    steps = session.base(base_archive)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(session.execute, query_of(*steps, *SLEEP))
        assert wait_until(session.process, lambda: in_container(session.process))
        below = tree_of(session.process.pid)
        assert len(below) > 2
        session.end(number)
        assert asked.exception(60) is not None or asked.result().get("errors")
    assert _gone(below)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    environment = {**os.environ, "POCKET_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-m", "pocket", "prune", "--max-bytes", "1000000000"], env=environment, check=True, capture_output=True)
    assert [p for p in (tmp_path / "cache").rglob("upper*") if any(p.iterdir())] == []


def _gone(pids: set[int]) -> bool:
    """Wait until processes that are not our children have ended."""
    for pid in pids:
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with subprocess.Popen([sys.executable, "-c", "import select, sys; select.select([int(sys.argv[1])], [], [], 60)", str(watched)],
                              pass_fds=[watched]) as waiting:  # fmt: skip
            waiting.wait()
        os.close(watched)
    return not any(Path(f"/proc/{pid}").exists() and "Z" not in _state(pid) for pid in pids)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_client_that_goes_away_does_not_stop_the_work(tmp_path: Path, base_archive: Path) -> None:
    """Its retry joins what runs."""
    with Session(tmp_path / "cache") as session:
        steps = session.base(base_archive)
        volume = session.value(("cacheVolume", {"key": "count"}), "id")
        script = "echo x >> /c/n; until [ -e /c/go ]; do sleep 0.05; done; wc -l < /c/n"
        chain = (*steps, ("withMountedCache", {"path": "/c", "cache": volume}))
        slow = (*chain, ("withExec", {"args": ["sh", "-c", script]}), "stdout")
        body = json.dumps({"query": query_of(*slow)}).encode()
        code = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.sendall(sys.stdin.buffer.read())"
        subprocess.run([sys.executable, "-c", code, str(session.port)], input=_head(session, body) + body, check=True)
        assert wait_until(session.process, lambda: in_container(session.process))
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(session.value, *slow)
            session.value(*chain, ("withExec", {"args": ["touch", "/c/go"]}), "stdout")
            assert again.result(120) == "1\n"


def _head(session: Session, body: bytes) -> bytes:
    token = base64.b64encode(f"{session.said['session_token']}:".encode()).decode()
    head = f"POST /query HTTP/1.1\r\nAuthorization: Basic {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode()


def test_two_sessions_share_a_cache_and_run_once(tmp_path: Path, base_archive: Path) -> None:
    with Session(tmp_path / "cache") as a, Session(tmp_path / "cache") as b:
        chain: tuple[Step, ...] = (("withExec", {"args": ["sh", "-c", "sleep 0.3; cat /proc/sys/kernel/random/uuid"]}), "stdout")
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(lambda s: s.value(*s.base(base_archive), *chain), (a, b)))
        assert said[0] == said[1]


def test_a_session_without_an_input_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pocket", "session"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "POCKET_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout)["port"]
