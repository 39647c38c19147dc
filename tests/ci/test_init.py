"""`init`: what it finds in somebody else's repository, what it writes, and that it never overwrites."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ci.config.load import load
from ci.init import texts
from ci.init.dockerfile import read
from ci.init.look import look
from ci.init.scaffold import steps

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ROOT / "tests" / "resources" / "foreign_repo"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    root = tmp_path / "somebody"
    shutil.copytree(FOREIGN, root, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".git").mkdir()
    return root


def weighbridge(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the console script's function, which has no working directory on its path."""
    program = "import sys; sys.argv[0] = 'weighbridge'; from ci.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WEIGHBRIDGE_CACHE": str(root.parent / "cache")}
    command = [sys.executable, "-P", "-c", program, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=environment)


def write_all(root: Path) -> None:
    for step in steps(look(root)):
        step.execute(root)


def test_it_finds_what_there_is(foreign: Path) -> None:
    found = look(foreign)
    assert (found.name, found.dockerfile, found.lock, found.test_lock) == (
        "shout",
        "Dockerfile",
        "requirements/base.txt",
        "requirements/dev.txt",
    )
    assert (found.tests, found.model, found.source, found.health) == ("qa", ("assets",), "service", "/healthz")
    assert (found.service.port, found.service.user, found.service.workdir) == (9100, "1000", "/srv/shout")


def test_what_it_writes_is_a_configuration_that_holds(foreign: Path) -> None:
    write_all(foreign)
    config = load(foreign / "configs" / "pipeline.yaml")
    assert (config.build.dockerfile, config.build.entrypoint) == ("Dockerfile", None)
    assert config.build.context == ("requirements/base.txt", "assets", "service")
    assert config.build.env == {"SHOUT_MODEL": "/srv/shout/assets"}
    assert config.test.path == "qa"
    lock = json.loads((foreign / config.subject.lock).read_text())
    assert set(lock["files"]) == {"assets/config.json", "assets/letters.bin"}
    for name in (texts.GITHUB, texts.GITLAB):
        text = (foreign / name).read_text()
        assert "weighbridge run" in text
        assert yaml.safe_load(text)


def test_in_a_repository_with_a_ci_package_of_its_own_ours_runs(foreign: Path) -> None:
    """Theirs raises when it is imported; a console script has only its own directory on the path."""
    done = weighbridge(foreign, "init")
    assert done.returncode == 0, done.stderr
    assert "service/shout/serve.py (modules below service)" in done.stdout
    assert "left to you" in done.stdout
    plan = weighbridge(foreign, "plan")
    assert (plan.returncode, plan.stdout.splitlines()[0][:5]) == (0, "shout"), plan.stderr
    assert weighbridge(foreign / "service", "validate").returncode == 0


def test_a_dry_run_writes_nothing_and_says_the_same(foreign: Path) -> None:
    before = sorted(foreign.rglob("*"))
    dry = json.loads(weighbridge(foreign, "init", "--dry-run", "--json").stdout)
    assert sorted(foreign.rglob("*")) == before
    wet = json.loads(weighbridge(foreign, "init", "--json").stdout)
    assert (dry.pop("dry_run"), wet.pop("dry_run")) == (True, False)
    assert dry == wet


def test_it_never_overwrites_and_the_second_time_writes_nothing(foreign: Path) -> None:
    (foreign / ".gitlab-ci.yml").write_text("mine: {script: [true]}\n")
    (foreign / ".gitignore").write_text("*.log")
    write_all(foreign)
    assert (foreign / ".gitlab-ci.yml").read_text() == "mine: {script: [true]}\n"
    assert (foreign / texts.GITLAB_INCLUDED).exists()
    assert any("include: {local: .gitlab/weighbridge.yml}" in line for line in texts.left_to_do(look(foreign)))
    assert (foreign / ".gitignore").read_text() == "*.log\n.weighbridge/\n.venv/\n"
    assert [step.path for step in steps(look(foreign)) if step.content] == []


def test_an_empty_repository_is_told_what_is_missing(tmp_path: Path) -> None:
    found = look(tmp_path)
    left = "\n".join(texts.left_to_do(found))
    for key in ("build.entrypoint", "subject.model", "build.requirements", "test.requirements", "test.path", "evaluate.suites"):
        assert key in left
    write_all(tmp_path)
    assert load(tmp_path / "configs" / "pipeline.yaml").build.entrypoint == ("python", "-m", "your.server")


def test_locks_without_hashes_and_of_other_tools_are_named(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# a comment\nhttpx==0.27\n")
    (tmp_path / "poetry.lock").write_text("")
    assert any("requirements.txt has no hashes" in line for line in texts.left_to_do(look(tmp_path)))
    (tmp_path / "requirements.txt").unlink()
    assert any("poetry export > requirements.txt" in line for line in texts.left_to_do(look(tmp_path)))


def test_suites_that_are_there_are_taken(foreign: Path) -> None:
    (foreign / "checks").mkdir()
    (foreign / "checks" / "Easy ones.jsonl").write_text('{"id": "1", "prompt": "a", "expected": "A"}\n')
    (foreign / "checks" / "other.jsonl").write_text("not json\n")
    write_all(foreign)
    (suite,) = load(foreign / "configs" / "pipeline.yaml").evaluate.suites
    assert (suite.name, suite.file) == ("easy-ones", "Easy ones.jsonl")
    assert not (foreign / "checks" / "smoke.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("FROM a\nCMD python -m x", ("python", "-m", "x")),
        ("FROM a\nCMD python -m x --port $PORT", ("sh", "-c", "python -m x --port $PORT")),
        ('FROM a\nENTRYPOINT ["uvicorn"]\nCMD ["x:app"]', ("uvicorn", "x:app")),
        ('FROM a\nCMD ["x"]\nFROM b\nENTRYPOINT ["y"]', ("y",)),
    ],
)
def test_the_command_of_a_dockerfile_is_the_one_of_its_last_stage(text: str, argv: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(text + "\n")
    service = read(tmp_path / "Dockerfile")
    assert service is not None
    assert service.argv == argv


def test_a_dockerfile_that_is_none_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("no instruction at all\n")
    assert read(tmp_path / "Dockerfile") is None
    assert read(tmp_path / "Containerfile") is None
