"""A repository of somebody else's, with a package `ci` of its own and a Dockerfile: `weighbridge init`, then `weighbridge run`."""

import shutil
from pathlib import Path

import pytest
import wheels
from accounts import ROOT, SYSTEM_PYTHON, Account, Checkout
from layouts import images


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.build(tmp_path_factory.mktemp("wheel"))


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
    # What was pushed is what their Dockerfile says.
    assert "dockerfile: Dockerfile" in (root / "configs" / "pipeline.yaml").read_text()
    (image,) = images(root / ".weighbridge" / "oci")
    said = [image.config[name] for name in ("Entrypoint", "Cmd", "User", "WorkingDir")]
    assert said == [["python", "-m", "shout.serve"], ["--port", "9100"], "1000:1000", "/srv/shout"]
    assert "the repository's own ci package" in account.run(account.python, "-m", "ci", "version", cwd=root).output
