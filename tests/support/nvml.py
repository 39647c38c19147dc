"""A machine with GPUs: a stand-in for NVIDIA's management library, compiled by the test and found by the loader like the real one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")


def library(directory: Path) -> Path:
    """Compile the stand-in; give the directory for LD_LIBRARY_PATH. Skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here: the stand-in for NVML cannot be made")
    target = directory / "nvml" / "libnvidia-ml.so.1"
    target.parent.mkdir(exist_ok=True)
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", target, SOURCE], check=True)
    return target.parent


def environment(directory: Path, *gpus: tuple[str, str, int, int]) -> dict[str, str]:
    """Give the environment of a process on a machine with these GPUs: (uuid, name, MiB, MiB used)."""
    told = ";".join(f"{uuid} {name} {total} {used}" for uuid, name, total, used in gpus)
    kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return {**kept, "LD_LIBRARY_PATH": str(library(directory)), "FAKE_GPUS": told}
