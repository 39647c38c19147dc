"""The program that asks the service: one file, standard library only, run inside the client container by any Python ≥ 3.8."""

from __future__ import annotations

from pathlib import Path

PROGRAM = Path(__file__).with_name("client.py")
"""The file to mount."""
