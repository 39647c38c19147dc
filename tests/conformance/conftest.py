"""One session per account for all cases of a worker: as root and as an ordinary user, or of the engine that the environment names."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import names
from busybox_image import make_base
from engines import NAMED, Engine, start
from persons import person


def _parameter(name: str) -> object:
    mark = pytest.mark.root if name == "root" else pytest.mark.rootless
    return pytest.param(name, marks=[mark, pytest.mark.xdist_group(f"conformance-{name}")])


@pytest.fixture(scope="session")
def homes() -> Iterator[Path]:
    """Give a directory that every account can reach (pytest's own is private)."""
    base = Path(tempfile.mkdtemp(prefix="weighbridge-cases-", dir="/var/tmp"))
    base.chmod(0o755)
    yield base
    subprocess.run(["chmod", "-R", "u+rwX", str(base)], check=False, capture_output=True)  # overlayfs leaves a directory of mode 0
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session", params=["named"] if NAMED else [_parameter(name) for name in names()])
def engine(request: pytest.FixtureRequest, homes: Path) -> Iterator[Engine]:
    """Hold one session; it must end in order and without a traceback."""
    base = make_base(homes / f"{request.param}.tar")
    base.chmod(0o644)
    running = start(person(names()[0] if NAMED else request.param, homes / request.param), base)
    yield running
    running.process.communicate()
    assert running.process.returncode == 0
    assert "Traceback" not in running.log.read_text(), running.log.read_text()
