"""Turn an uploaded picture into the model's input: 8×8 ink intensities from 0 to 1, then overlapping patches.

The scans are light ink on a dark ground, as the data set has them. Larger pictures are averaged down; nothing is
cropped, centred or inverted.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    from digits_vlm.config import ModelConfig

Array = NDArray[np.float32]
MAX_SIDE = 1024
FORMATS = ("PNG", "JPEG")
_DATA_PREFIX = "data:image/"


class ImageError(ValueError):
    """A picture that cannot be read; the message is fit to be shown to the caller."""


def decode_data_uri(uri: str) -> bytes:
    """Return the bytes of a base64 `data:image/…` URI; raise `ImageError` for any other address."""
    if not uri.startswith(_DATA_PREFIX):
        message = "image_url must be a base64 data URI (data:image/png;base64,…); remote images are not fetched"
        raise ImageError(message)
    header, comma, payload = uri.partition(",")
    if not comma or not header.endswith(";base64"):
        message = "the image data URI must be base64 encoded"
        raise ImageError(message)
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error as error:
        message = f"the image is not valid base64: {error}"
        raise ImageError(message) from error


def read_pixels(data: bytes, *, image_size: int) -> Array:
    """Return the picture in `data` (PNG or JPEG) as `image_size`² intensities from 0 to 1."""
    try:
        with warnings.catch_warnings():
            # Pillow only warns of a picture that would unpack to gigabytes; the header is refused below instead.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if max(picture.size) > MAX_SIDE:
            message = f"the image is {picture.width}×{picture.height} pixels; at most {MAX_SIDE} a side are read"
            raise ImageError(message)
        grey = picture.convert("L")
    except Image.DecompressionBombError as error:
        message = f"the image is too large; at most {MAX_SIDE} pixels a side are read"
        raise ImageError(message) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        message = "the image cannot be read; send a PNG or JPEG"
        raise ImageError(message) from error
    if grey.size != (image_size, image_size):
        grey = grey.resize((image_size, image_size), Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


def patches(pixels: NDArray[Any], config: ModelConfig) -> Array:
    """Cut one image (shape `[size, size]`) into overlapping patches (shape `[n_patches, patch_size²]`)."""
    padded = np.pad(pixels.astype(np.float32), config.patch_padding)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (config.patch_size, config.patch_size))
    chosen = windows[:: config.patch_stride, :: config.patch_stride]
    return np.ascontiguousarray(chosen.reshape(config.n_patches, config.patch_size**2))
