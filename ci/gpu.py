"""Finds out whether this machine has an NVIDIA GPU, without any library: the driver's device node and what it says in /proc."""

from __future__ import annotations

from pathlib import Path


def found(device: Path = Path("/dev/nvidiactl"), proc: Path = Path("/proc/driver/nvidia/gpus")) -> str:
    """Name the GPUs (`NVIDIA H200`, `4 × NVIDIA L4`); empty when there is none."""
    if not device.exists():
        return ""
    models = []
    for information in sorted(proc.glob("*/information")):
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        models += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    if not models:
        return "NVIDIA GPU"
    return models[0] if len(models) == 1 else f"{len(models)} × {models[0]}"
