"""A repository of somebody else's, with a package `ci` of its own and a Dockerfile: `weighbridge init`, then `weighbridge run`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accounts import ROOT, SYSTEM_PYTHON, Account, Checkout

BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what pip would install, from a copy, as setuptools writes beside the sources."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("ci", "pocket"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    done = subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=tree, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("weighbridge-*.whl"))


def test_init_and_run_in_a_foreign_repository(account: Account, wheel: Path) -> None:
    home = account.directory("foreign")
    shutil.copy(wheel, home / wheel.name)
    installed = home / "installed"
    pip = (SYSTEM_PYTHON, "-m", "pip", "--python", account.python, "install", "-q", "--no-deps", "--target", str(installed))
    done = account.run(*pip, str(home / wheel.name), cwd=home)
    assert done.code == 0, done.output
    root = home / "shout"
    shutil.copytree(ROOT / "tests" / "resources" / "foreign_repo", root, ignore=shutil.ignore_patterns("__pycache__"))
    account.own(root)
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@localhost")
    for command in (("init", "--quiet"), ("add", "--all"), (*identity, "commit", "--quiet", "--message=theirs")):
        done = account.run("git", *command, cwd=root)
        assert done.code == 0, done.output
    script, environment = str(installed / "bin" / "weighbridge"), {"PYTHONPATH": str(installed)}
    for word in ("init", "validate", "run"):
        done = account.run(script, word, cwd=root, env=environment)
        assert done.code == 0, done.output
    assert set(Checkout(account, root).outcomes().values()) == {"passed"}
    assert "the repository's own ci package" in account.run(account.python, "-m", "ci", "version", cwd=root).output
