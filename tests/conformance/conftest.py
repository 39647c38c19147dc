"""One session per account for all cases of a worker, or one of the engine that the environment names.

The accounts: root, an ordinary user, and one with subordinate ids.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import subordinate
from accounts import names
from busybox_image import make_base
from engines import NAMED, Engine, start
from persons import person

_MORE = [subordinate.NAME] if names()[0] == "root" else []


def _parameter(name: str) -> object:
    mark = pytest.mark.rootless if name == "nobody" else pytest.mark.root  # only root can make the third
    return pytest.param(name, marks=[mark, pytest.mark.xdist_group(f"conformance-{name}")])


@pytest.fixture(scope="session")
def homes() -> Iterator[Path]:
    """Give a directory that every account can reach (pytest's own is private)."""
    base = Path(tempfile.mkdtemp(prefix="weighbridge-cases-", dir="/var/tmp"))
    base.chmod(0o755)
    yield base
    subprocess.run(["chmod", "-R", "u+rwX", str(base)], check=False, capture_output=True)  # overlayfs leaves a directory of mode 0
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session", params=["named"] if NAMED else [_parameter(n) for n in (*names(), *_MORE)])
def engine(request: pytest.FixtureRequest, homes: Path) -> Iterator[Engine]:
    """Hold one session; it must end in order and without a traceback."""
    if request.param == subordinate.NAME and (reason := subordinate.why_not()):
        pytest.skip(reason)
    base = make_base(homes / f"{request.param}.tar")
    base.chmod(0o644)
    running = start(person(names()[0] if NAMED else request.param, homes / request.param), base)
    assert request.param != subordinate.NAME or running.tier == "subuid"
    yield running
    running.process.communicate()
    assert running.process.returncode == 0
    assert "Traceback" not in running.log.read_text(), running.log.read_text()
