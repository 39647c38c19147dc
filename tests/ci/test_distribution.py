"""What `pip install` would put on a machine: both packages with their data, and the two console scripts, each leading to a function."""

import importlib
import tomllib
import zipfile
from pathlib import Path

import pytest
import wheels

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.build(tmp_path_factory.mktemp("wheel"))


def test_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    """A data file that the wheel leaves out is found by whoever installs it, not by us."""
    packed = set(zipfile.ZipFile(wheel).namelist())
    kept = (path for name in ("ci", "pocket") for path in (ROOT / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert {str(path.relative_to(ROOT)) for path in kept} - packed == set()


def test_wheel_brings_no_other_top_level_package(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ci", "pocket"}


def test_console_scripts_lead_to_functions() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"weighbridge", "pocket"}
    for target in scripts.values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
