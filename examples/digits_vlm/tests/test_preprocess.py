from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import encode
from PIL import Image

from digits_vlm.preprocess import ImageError, decode_data_uri, patches, read_pixels

if TYPE_CHECKING:
    from digits_vlm.engine import Engine


def test_a_scan_is_read_exactly(scan: np.ndarray, png: bytes) -> None:
    assert np.array_equal(read_pixels(png, image_size=8), scan.astype(np.float32) / 255)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1"])
def test_other_colour_modes_are_turned_to_grey(mode: str, scan: np.ndarray) -> None:
    black_and_white = Image.fromarray(np.where(scan > 127, 255, 0).astype(np.uint8))
    read = read_pixels(encode(black_and_white.convert(mode)), image_size=8)
    assert np.array_equal(read, np.asarray(black_and_white, np.float32) / 255)


def test_an_enlarged_scan_is_the_same_scan(scan: np.ndarray) -> None:
    large = Image.fromarray(scan).resize((64, 64), Image.Resampling.NEAREST)
    assert np.array_equal(read_pixels(encode(large), image_size=8), scan.astype(np.float32) / 255)


def test_a_jpeg_is_read_nearly(scan: np.ndarray) -> None:
    read = read_pixels(encode(Image.fromarray(scan), "JPEG"), image_size=8)
    assert np.abs(read - scan / 255).max() < 0.15


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="PNG or JPEG"):
        read_pixels(data, image_size=8)


def test_a_truncated_picture_is_refused(png: bytes) -> None:
    with pytest.raises(ImageError, match="PNG or JPEG"):
        read_pixels(png[:50], image_size=8)


def test_a_format_that_is_not_offered_is_refused(scan: np.ndarray) -> None:
    with pytest.raises(ImageError, match="PNG or JPEG"):
        read_pixels(encode(Image.fromarray(scan), "GIF"), image_size=8)


@pytest.mark.parametrize("side", [1025, 12_000, 60_000])
def test_a_picture_that_would_unpack_to_gigabytes_is_refused_by_its_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(ImageError, match="1024"):
        read_pixels(bomb, image_size=8)


def test_a_data_uri_holds_the_bytes() -> None:
    assert decode_data_uri("data:image/png;base64," + base64.b64encode(b"abc").decode()) == b"abc"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("https://example.org/seven.png", "remote images are not fetched"),
        ("file:///etc/passwd", "remote images are not fetched"),
        ("data:text/plain;base64,YWJj", "data URI"),
        ("data:image/png,abc", "base64 encoded"),
        ("data:image/png;base64", "base64 encoded"),
        ("data:image/png;base64,???", "not valid base64"),
    ],
)
def test_any_other_address_is_refused(uri: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_data_uri(uri)


def test_patches_overlap_and_are_padded_with_paper(engine: Engine, scan: np.ndarray) -> None:
    rows = patches(scan, engine.config)
    assert rows.shape == (16, 16)
    corner = rows[0].reshape(4, 4)
    assert not corner[0].any()
    assert not corner[:, 0].any()
    assert np.array_equal(corner[1:, 1:], scan[:3, :3].astype(np.float32))
    assert np.array_equal(rows[5].reshape(4, 4), scan[1:5, 1:5].astype(np.float32))
