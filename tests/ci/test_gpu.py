"""Which GPUs a machine has: from NVML (a stand-in that the loader finds), else from what the driver says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from nvml import environment

from ci.gpu import Gpu, _from_driver, describe, visible

L4, H200 = ("GPU-1111", "L4", 23_034, 10), ("GPU-2222", "H200", 143_771, 70_000)
TWO = (Gpu(index=0, uuid="GPU-1111", name="L4"), Gpu(index=1, uuid="GPU-2222", name="H200"))


def found(tmp_path: Path, *gpus: tuple[str, str, int, int], **extra: str) -> list[tuple[int, str, str, int, int]]:
    """Ask a process on such a machine."""
    program = "import json; from ci.gpu import found; print(json.dumps([[g.index, g.uuid, g.name, g.memory, g.used] for g in found()]))"
    environ = {**environment(tmp_path, *gpus), **extra}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    return [tuple(row) for row in json.loads(done.stdout)]


def test_nvml_tells_names_and_memory(tmp_path: Path) -> None:
    assert found(tmp_path, L4, H200) == [(0, *L4), (1, *H200)]


def test_a_gpu_that_is_lost_is_left_out(tmp_path: Path) -> None:
    assert found(tmp_path, ("lost", "L4", 1, 1), H200) == [(1, *H200)]


def test_a_library_without_a_driver_means_none(tmp_path: Path) -> None:
    environ = environment(tmp_path)
    del environ["FAKE_GPUS"]
    program = "from ci.gpu import found; print(found())"
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "()\n"


def test_a_runner_that_was_given_one_gpu_takes_no_other(tmp_path: Path) -> None:
    assert found(tmp_path, L4, H200, CUDA_VISIBLE_DEVICES="1") == [(1, *H200)]


@pytest.mark.parametrize(
    ("named", "indexes"),
    [
        (None, [0, 1]),
        ("0", [0]),
        ("1,0", [1, 0]),
        ("GPU-22", [1]),
        ("", []),
        ("-1", []),
        ("0,7,1", [0]),
        ("GPU-", []),
        ("GPU-1111, 1", [0, 1]),
    ],
)
def test_cuda_visible_devices_counts_as_in_cuda(named: str | None, indexes: list[int]) -> None:
    environ = {} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    assert [gpu.index for gpu in visible(TWO, environ)] == indexes


def test_the_driver_is_asked_where_there_is_no_library(tmp_path: Path) -> None:
    device, proc = tmp_path / "nvidiactl", tmp_path / "gpus"
    (tmp_path / "nvidia0").touch()
    assert list(_from_driver(device, proc)) == []
    device.touch()
    assert list(_from_driver(device, proc)) == [Gpu(index=0, uuid="0", name="NVIDIA GPU")]
    for number, uuid in enumerate(("GPU-????????-????", "GPU-2222")):
        (proc / f"0000:0{number}:00.0").mkdir(parents=True)
        (proc / f"0000:0{number}:00.0" / "information").write_text(
            f"Model: \t\t NVIDIA L4\nIRQ: 1\nGPU UUID: \t {uuid}\nDevice Minor: \t {number + 1}\n"
        )
    assert [(gpu.index, gpu.uuid, gpu.name) for gpu in _from_driver(device, proc)] == [(1, "1", "NVIDIA L4"), (2, "GPU-2222", "NVIDIA L4")]


def test_gpus_are_named_and_counted() -> None:
    assert describe(()) == ""
    assert describe(TWO[:1]) == "L4"
    assert describe((*TWO, TWO[0])) == "2 × L4 + H200"
