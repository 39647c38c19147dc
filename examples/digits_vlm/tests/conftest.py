"""Fixtures: the tiny random model, which stands in for the trained one wherever the weights' values do not matter."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digits_vlm.engine import Engine

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="session")
def tiny_dir() -> Path:
    return REFERENCE / "tiny"


@pytest.fixture(scope="session")
def engine(tiny_dir: Path) -> Engine:
    return Engine.load(tiny_dir)


@pytest.fixture
def model_dir(tiny_dir: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny model that a test may spoil."""
    copy = tmp_path / "model"
    shutil.copytree(tiny_dir, copy)
    return copy


@pytest.fixture(scope="session")
def scan() -> np.ndarray:
    """Return an 8×8 picture with a vertical stroke, as bytes from 0 to 255."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[1:7, 3:5] = 200
    pixels[1, 2] = 90
    return pixels


@pytest.fixture(scope="session")
def png(scan: np.ndarray) -> bytes:
    return encode(Image.fromarray(scan))


@pytest.fixture(scope="session")
def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def encode(picture: Image.Image, kind: str = "PNG") -> bytes:
    """Return `picture` as a file of the given kind."""
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()
