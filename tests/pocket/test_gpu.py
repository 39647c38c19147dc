"""GPUs: refused with a reason where there is none, and shown by CDI or by the driver's files where there is one."""

import json
from pathlib import Path

import pytest
from sessions import Failed, Session, Step

from pocket import gpu
from pocket.gpu import NoGPUError

HAS = gpu.present()
NODE = {"path": "/dev/nvidia0"}
LIBRARY = {"hostPath": "/usr/lib/libcuda.so.1", "containerPath": "/lib/libcuda.so.1", "options": ["ro", "nosuid"]}


@pytest.mark.skipif(HAS, reason="this machine has a GPU")
def test_no_gpu_is_said_with_advice(shared_session: Session, box: tuple[Step, ...]) -> None:
    with pytest.raises(Failed, match="no NVIDIA GPU on this machine"):
        shared_session.value(*box, "experimentalWithAllGPUs", ("withExec", {"args": ["true"]}), "sync")
    with pytest.raises(NoGPUError) as caught:
        gpu.mounts(("all",))
    assert "run on a machine with a GPU" in caught.value.hint
    with pytest.raises(NoGPUError):
        gpu.identity(("0",))


@pytest.mark.skipif(not HAS, reason="this machine has no GPU")
def test_the_driver_is_shown(shared_session: Session, box: tuple[Step, ...]) -> None:
    assert gpu.inventory()
    out = shared_session.value(*box, "experimentalWithAllGPUs", ("withExec", {"args": ["ls", "/dev/nvidiactl"]}), "stdout")
    assert out == "/dev/nvidiactl\n"


def test_no_devices_need_no_gpu() -> None:
    assert gpu.mounts(()) == []


def specification(place: Path, kind: str = "nvidia.com/gpu") -> None:
    """Write a CDI specification with two devices."""
    devices = [
        {"name": "0", "containerEdits": {"deviceNodes": [NODE]}},
        {"name": "all", "containerEdits": {"deviceNodes": [NODE, {"path": "/dev/nvidia1", "hostPath": "/dev/real1"}]}},
    ]
    place.write_text(json.dumps({"kind": kind, "devices": devices, "containerEdits": {"mounts": [LIBRARY]}}))


def test_a_cdi_specification_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_CDI_DIRECTORIES", (tmp_path / "absent", tmp_path))
    specification(tmp_path / "nvidia-other.json", kind="vendor.com/other")
    specification(tmp_path / "nvidia.json")
    found = gpu._from_cdi(("all",))
    assert found is not None
    assert [(m.source, m.target, m.readonly) for m in found] == [
        ("/usr/lib/libcuda.so.1", "/lib/libcuda.so.1", True),
        ("/dev/nvidia0", "/dev/nvidia0", False),
        ("/dev/real1", "/dev/nvidia1", False),
    ]
    assert gpu._from_cdi(("7",)) is None


def test_the_drivers_files_are_those_that_the_loader_finds() -> None:
    names = [Path(p).name for p in gpu._driver_files()]
    assert names == [n for n in names if n.startswith(("libcuda", "libnvidia-", "libnvcuvid", "nvidia-smi"))]


def test_gpus_are_named_by_number_or_uuid(tmp_path: Path) -> None:
    for number, uuid in ((3, "GPU-1111"), (5, "GPU-2222")):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
        (tmp_path / f"0000:0{number}:00.0" / "information").write_text(
            f"Model: \t NVIDIA L4\nGPU UUID: \t {uuid}\nDevice Minor: \t {number}\n"
        )
    assert gpu.numbers(("GPU-2222",), tmp_path) == {"5"}
    assert gpu.numbers(("3", "GPU-1111", "GPU-9999"), tmp_path) == {"3", "GPU-9999"}
