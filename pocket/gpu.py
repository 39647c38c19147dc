"""NVIDIA GPUs for containers: the driver's device nodes and libraries, and what of them belongs in a cache key.

Devices come from a CDI specification where the machine has one (`/etc/cdi`, `/var/run/cdi`; JSON only, hooks are ignored),
else from the driver's device nodes and the libraries that the loader finds. Nothing here starts or configures a device.
"""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from pocket.errors import PocketError
from pocket.sandbox import Mount

_CDI_DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
_GPUS = Path("/proc/driver/nvidia/gpus")
_CONTROL = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
_LIBRARIES = ("libcuda.so", "libnvidia-", "libnvcuvid.so", "libcudadebugger.so")


class NoGPUError(PocketError):
    """A container asks for a GPU and the machine has none."""

    def __init__(self, what: str) -> None:
        hint = "run on a machine with a GPU, or leave the GPU out"
        super().__init__(f"{what}: no NVIDIA GPU on this machine (no /dev/nvidiactl)", hint=hint)


def present() -> bool:
    """Tell whether the machine has an NVIDIA driver with a device."""
    return Path("/dev/nvidiactl").exists()


@cache
def inventory() -> tuple[tuple[str, str, str], ...]:
    """Give (index, model, driver version) of each GPU, from the driver's files."""
    driver = ""
    version = Path("/proc/driver/nvidia/version")
    if version.exists():
        driver = version.read_text().splitlines()[0].strip()
    return tuple((fields.get("Device Minor", ""), fields.get("Model", ""), driver) for fields in _told(_GPUS))


def numbers(gpus: tuple[str, ...], place: Path) -> set[str]:
    """Give the numbers of the device nodes of GPUs that are named by number or by UUID; an unknown name stands for itself."""
    by_uuid = {fields.get("GPU UUID", ""): fields.get("Device Minor", "") for fields in _told(place)}
    return {by_uuid.get(name) or name for name in gpus}


def _told(place: Path) -> list[dict[str, str]]:
    """Give what the driver says of each GPU."""
    lines = [info.read_text().splitlines() for info in sorted(place.glob("*/information"))]
    return [{name.strip(): value.strip() for name, _, value in (line.partition(":") for line in told)} for told in lines]


def identity(gpus: tuple[str, ...]) -> list[Any]:
    """Give what a result on these GPUs depends on: which were asked for, model and driver. (Dagger keys on the list alone.)

    Raises:
        NoGPUError: there is none.
    """
    if not present():
        raise NoGPUError("experimentalWithGPU")
    return [list(gpus), sorted({(model, driver) for _, model, driver in inventory()})]


def mounts(gpus: tuple[str, ...]) -> list[Mount]:
    """Give the mounts that show GPUs ("all", numbers or UUIDs) to a container.

    Raises:
        NoGPUError: there is none, or not the one asked for.
    """
    if not gpus:
        return []
    if not present():
        raise NoGPUError("experimentalWithGPU")
    from_cdi = _from_cdi(gpus)
    if from_cdi is not None:
        return from_cdi
    devices = [p for p in _CONTROL if Path(p).exists()]
    numbered = sorted(Path("/dev").glob("nvidia[0-9]*"))
    chosen = numbers(gpus, _GPUS)
    wanted = numbered if "all" in gpus else [p for p in numbered if p.name.removeprefix("nvidia") in chosen]
    if not wanted:
        raise NoGPUError(f"GPU {', '.join(gpus)}")
    devices += [str(p) for p in wanted] + [str(p) for p in sorted(Path("/dev/nvidia-caps").glob("*"))]
    return [_bind(p, p) for p in devices] + [_bind(p, p, readonly=True) for p in _driver_files()]


def _bind(source: str, target: str, *, readonly: bool = False) -> Mount:
    return Mount(target=target, kind="bind", source=source, readonly=readonly)


def _driver_files() -> list[str]:
    listing = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    files = []
    for line in listing.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        if arrow and "x86-64" in name and name.startswith(_LIBRARIES):
            files.append(path)
    tool = Path("/usr/bin/nvidia-smi")
    return sorted(set(files)) + ([str(tool)] if tool.exists() else [])


def _from_cdi(gpus: tuple[str, ...]) -> list[Mount] | None:
    for directory in _CDI_DIRECTORIES:
        for path in sorted(directory.glob("nvidia*.json")):
            spec = json.loads(path.read_text())
            if spec.get("kind") != "nvidia.com/gpu":
                continue
            names = {d["name"]: d for d in spec.get("devices", [])}
            chosen = [names[g] for g in gpus if g in names]
            if len(chosen) == len(gpus):
                edits = [spec.get("containerEdits", {}), *(d.get("containerEdits", {}) for d in chosen)]
                return [m for e in edits for m in _edit_mounts(e)]
    return None


def _edit_mounts(edits: dict[str, Any]) -> list[Mount]:
    nodes = [_bind(n.get("hostPath") or n["path"], n["path"]) for n in edits.get("deviceNodes", [])]
    binds = [_bind(m["hostPath"], m["containerPath"], readonly="ro" in m.get("options", [])) for m in edits.get("mounts", [])]
    return nodes + binds
