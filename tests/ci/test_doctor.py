"""doctor: what a run would meet here, with what to do; and config show, which says what holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pipelines import CONFIG, Pipeline, commits

from ci.commands.surroundings import surroundings
from ci.doctor import Answer, examine
from ci.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository and work in it, with an environment that names no engine."""
    root = Pipeline.at(tmp_path).root
    next(commits(root))
    monkeypatch.chdir(root)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("_EXPERIMENTAL_DAGGER_CLI_BIN", "_EXPERIMENTAL_DAGGER_RUNNER_HOST", "DAGGER_SESSION_PORT"):
        monkeypatch.delenv(name, raising=False)
    return root


def answers(root: Path, option: str = "tcp://nowhere:1") -> dict[str, Answer]:
    """Ask about an engine that need not answer: the embedded one has tests of its own."""
    return {answer.name: answer for answer in examine(surroundings(), root.parent / "cache", option)}


def test_each_answer_has_a_word_and_what_is_missing_a_fix(root: Path) -> None:
    found = answers(root)
    assert set(found) == {"configuration", "engine", "cache", "base", "registry", "steps get"}
    assert found["engine"].detail.startswith("dagger · tcp://nowhere:1 · --engine tcp://nowhere:1")
    assert (found["registry"].status, "OCI layout" in found["registry"].detail) == ("info", True)
    assert found["base"].detail.endswith("not resolved here yet; a run does that")
    assert all(answer.fix for answer in found.values() if answer.status in {"warn", "fail"})


def test_the_login_of_the_target_is_looked_for(root: Path) -> None:
    (root / "configs" / "pipeline.yaml").write_text(CONFIG + "push: {target: registry.example/team/model}\n")
    assert answers(root)["registry"].status == "warn"
    docker = root.parent / "docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"auths": {"registry.example": {"auth": "YW5hOnNlY3JldA=="}}}))
    found = answers(root)["registry"]
    assert (found.status, found.detail) == ("ok", "a login for registry.example")
    assert "secret" not in repr(found)
    (docker / "config.json").write_text("{")
    assert answers(root)["registry"].status == "fail"


def test_without_a_configuration_the_machine_is_examined_all_the_same(root: Path) -> None:
    found = {answer.name: answer for answer in examine(UsageError("there is none", hint="init"), root.parent / "cache", "tcp://nowhere:1")}
    assert (found["configuration"].status, found["configuration"].fix) == ("fail", "init")
    assert "cache" in found


def ci(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "ci", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_the_embedded_engine_is_asked_and_the_code_says_whether_a_run_could_be(root: Path) -> None:
    done = ci(root, "doctor", "--json")
    found = {answer["name"]: answer["status"] for answer in json.loads(done.stdout)}
    assert {"engine", "cache", "command", "services"} <= found.keys()
    assert (done.returncode == 5) == ("fail" in found.values())
    (root / "configs" / "pipeline.yaml").write_text("nonsense: 1\n")
    broken = ci(root, "doctor", "--engine", "tcp://nowhere:1")
    assert broken.returncode == 2
    assert 'unknown key "nonsense"' in broken.stdout


def test_config_show_says_what_holds_with_all_defaults(root: Path) -> None:
    shown = yaml.safe_load(ci(root, "config", "show").stdout)
    assert shown["build"]["port"] == 8000
    assert shown == json.loads(ci(root, "config", "show", "--json").stdout)
