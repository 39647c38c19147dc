"""Which engine is chosen, and one session with it: how it opens, how it ends, and what its failures say."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from ci.engine import EngineChoice, Session, choose, other_runtime, pocket_command
from ci.errors import InfraError

HOST = "tcp://engine:8080"


@pytest.mark.parametrize(
    ("option", "configured", "environment", "kind", "runner_host"),
    [
        ("", "pocket", {}, "pocket", ""),
        ("", "pocket", {"_EXPERIMENTAL_DAGGER_RUNNER_HOST": HOST}, "dagger", HOST),
        ("", HOST, {}, "dagger", HOST),
        ("", "dagger", {}, "dagger", ""),
        ("", "pocket", {"DAGGER_SESSION_PORT": "1", "DAGGER_SESSION_TOKEN": "x"}, "session", ""),
        ("pocket", "dagger", {"DAGGER_SESSION_PORT": "1"}, "pocket", ""),
        ("pocket", "dagger", {"_EXPERIMENTAL_DAGGER_RUNNER_HOST": HOST}, "pocket", ""),
        ("dagger", "pocket", {"_EXPERIMENTAL_DAGGER_RUNNER_HOST": HOST}, "dagger", HOST),
        ("unix:///run/engine.sock", "pocket", {}, "dagger", "unix:///run/engine.sock"),
        ("", "pocket", {"_EXPERIMENTAL_DAGGER_CLI_BIN": "/bin/engine"}, "dagger", ""),
    ],
)
def test_choice(option: str, configured: str, environment: dict[str, str], kind: str, runner_host: str) -> None:
    chosen = choose(option, configured, environment)
    assert (chosen.kind, chosen.runner_host) == (kind, runner_host)


def test_whatever_is_not_the_default_says_why() -> None:
    assert choose("", "pocket", {}).why == ""
    assert choose("dagger", "pocket", {}).why == "--engine dagger"
    assert choose("", "dagger", {}).why == "configured"
    assert choose("", "pocket", {"DAGGER_SESSION_PORT": "1"}).why == "inside `dagger run`"


def test_elsewhere_than_on_linux_pocket_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    chosen = choose("", "pocket", {})
    assert (chosen.kind, chosen.why) == ("dagger", "pocket needs Linux")


def test_a_container_runtime_that_is_here_changes_nothing_and_is_mentioned(tmp_path: Path) -> None:
    (tmp_path / "podman").write_text("#!/bin/sh\n")
    (tmp_path / "podman").chmod(0o755)
    assert other_runtime({"PATH": str(tmp_path)}) == "podman"
    assert other_runtime({"PATH": "/nowhere"}) == ""
    assert choose("", "pocket", {"PATH": str(tmp_path)}).kind == "pocket"


def test_engines_that_may_behave_differently_have_different_identities() -> None:
    choices = [choose("", "pocket", {}), choose("dagger", "", {"PATH": ""}), choose(HOST, "", {"PATH": ""}), EngineChoice(kind="session")]
    assert len({choice.identity("pocket 1") for choice in choices}) == len(choices)


class Opened:
    def __init__(self, session: Session, died: list[InfraError]) -> None:
        self.session, self.died = session, died


@asynccontextmanager
async def session(choice: EngineChoice, place: Path) -> AsyncIterator[Opened]:
    died: list[InfraError] = []
    opened = Session(choice=choice, root=place, log=place / "engine.log", environment={}, on_death=died.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(opened.serve)
        try:
            yield Opened(opened, died)
        finally:
            opened.close()


async def test_a_session_with_pocket_opens_names_itself_and_leaves_nothing(tmp_path: Path) -> None:
    async with session(choose("pocket", "", {}), tmp_path) as opened:
        known = await opened.session.named()
        assert known["engine"] == "pocket"
        assert known["tier"] in {"root", "rootless (single uid)", "rootless (several uids)"}
        client = await opened.session.client()
        assert await client.version()
        process = opened.session._process
        assert process is not None
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert opened.died == []
    assert "pocket" in (tmp_path / "engine.log").read_text()


async def test_a_session_that_nobody_wants_is_never_started(tmp_path: Path) -> None:
    async with session(choose("pocket", "", {}), tmp_path) as opened:
        pass
    assert opened.session._process is None


def script(place: Path, text: str) -> EngineChoice:
    path = place / "engine"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return EngineChoice(kind="dagger", cli=(str(path),))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("echo 'no user namespaces here' >&2; exit 1", "ended before it was ready", "no user namespaces here"),
        ("echo hello; cat", "answered something that is no session", ""),
        ("""echo '{"port": 0}'; cat""", "answered something that is no session", ""),
    ],
)
async def test_an_engine_that_does_not_start_is_infrastructure_and_says_its_own_words(
    text: str, message: str, hint: str, tmp_path: Path
) -> None:
    async with session(script(tmp_path, text), tmp_path) as opened:
        with pytest.raises(InfraError, match=message) as caught:
            await opened.session.client()
    assert hint in caught.value.hint
    assert caught.value.exit == 5


async def test_an_engine_that_is_not_there_is_infrastructure(tmp_path: Path) -> None:
    async with session(EngineChoice(kind="dagger", cli=(str(tmp_path / "none"),)), tmp_path) as opened:
        with pytest.raises(InfraError, match="cannot be started"):
            await opened.session.client()


async def test_an_engine_that_dies_in_mid_run_is_noticed(tmp_path: Path) -> None:
    async with session(choose("pocket", "", {}), tmp_path) as opened:
        await opened.session.client()
        assert opened.session._process is not None
        os.kill(opened.session._process.pid, signal.SIGKILL)
        await opened.session._process.wait()
        while not opened.died:
            await anyio.lowlevel.checkpoint()
    assert "ended in mid-run (exit code -9)" in str(opened.died[0])


def test_pocket_is_the_one_beside_this_package() -> None:
    command = pocket_command()
    assert command[0] == sys.executable
    assert (Path(command[-1]) / "pocket" / "cli.py").is_file()
