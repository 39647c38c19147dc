"""Finds the NVIDIA GPUs of this machine: through NVML where the driver's library can be loaded, else from what the driver says in /proc.

`CUDA_VISIBLE_DEVICES` narrows what is found, so that a runner which was given some of a machine's GPUs takes no other. Nothing here
starts or configures a device, and a machine without a driver pays for two look-ups in the file system.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_MIB = 1 << 20
_NODE = Path("/dev/nvidiactl")
_PROC = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as it is now."""

    index: int
    """Its number in NVML's order."""
    uuid: str
    """What names it to every container runtime, and on every start of the machine."""
    name: str
    memory: int = 0
    """MiB; 0 when the driver does not tell."""
    used: int = 0
    """MiB in use by anybody."""


def found() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, in NVML's order."""
    gpus = tuple(_from_nvml()) or tuple(_from_driver(_NODE, _PROC))
    return visible(gpus, os.environ)


def visible(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Return those that `CUDA_VISIBLE_DEVICES` names, by number or by the beginning of the UUID; as in CUDA, a wrong name ends the list."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return tuple(gpus)
    chosen: list[Gpu] = []
    for word in (part.strip() for part in named.split(",")):
        fits = [gpu for gpu in gpus if (gpu.index == int(word) if word.isdigit() else word and gpu.uuid.startswith(word))]
        if len(fits) != 1:
            break
        chosen += fits
    return tuple(chosen)


def describe(gpus: Iterable[Gpu]) -> str:
    """Name GPUs (`NVIDIA H200`, `4 × NVIDIA L4`); empty when there is none."""
    names = [gpu.name for gpu in gpus]
    counted = [(names.count(name), name) for name in dict.fromkeys(names)]
    return " + ".join(name if count == 1 else f"{count} × {name}" for count, name in counted)


def _from_nvml() -> Iterator[Gpu]:
    # Importing the bindings takes 40 ms; where no library can be loaded, they need not be.
    if not _NODE.exists() and not _library():
        return
    import pynvml  # type: ignore[import-untyped]  # the bindings have no annotations

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # one that fell off the bus is none; the others are there all the same
                yield _device(pynvml, index)
    finally:
        pynvml.nvmlShutdown()


def _library() -> bool:
    """Tell whether the loader would find NVML, in the places of the system or in those that the environment names."""
    name = "libnvidia-ml.so.1"
    places = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    return any(Path(place, name).exists() for place in places)


def _device(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
    return Gpu(index=index, uuid=str(uuid), name=str(name), memory=memory.total // _MIB, used=memory.used // _MIB)


def _from_driver(node: Path, proc: Path) -> Iterator[Gpu]:
    """Give what the driver says in /proc, else one GPU for each device node; neither tells of memory."""
    if not node.exists():
        return
    told = False
    for position, information in enumerate(sorted(proc.glob("*/information"))):
        told = True
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        number, uuid = fields.get("Device Minor", ""), fields.get("GPU UUID", "")
        index = int(number) if number.isdigit() else position
        # An older driver writes GPU-????????-… until the GPU was used; its number names it as well.
        yield Gpu(index=index, uuid=uuid if uuid and "?" not in uuid else str(index), name=fields.get("Model", "NVIDIA GPU"))
    for device in sorted(node.parent.glob("nvidia[0-9]*")) if not told else ():
        index = int(device.name.removeprefix("nvidia"))
        yield Gpu(index=index, uuid=str(index), name="NVIDIA GPU")
