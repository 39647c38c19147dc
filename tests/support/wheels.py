"""The wheel that pip would install, built from a copy of the packages, as setuptools writes beside the sources."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


def build(place: Path) -> Path:
    """Build the wheel below `place`, an empty directory, and give its path."""
    tree, out = place / "tree", place / "wheel"
    out.mkdir()
    for name in ("ci", "pocket"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    done = subprocess.run([sys.executable, "-c", _BUILD, str(out)], cwd=tree, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("weighbridge-*.whl"))
