"""Read the weights from safetensors and check every tensor's name, type and shape before the model sees them.

Values are not judged: weights that are all zero load and answer nonsense, which is for an evaluation to find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from digits_vlm.config import WEIGHTS_FILE, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from digits_vlm.config import ModelConfig

Tensors = dict[str, NDArray[np.float32]]


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of each tensor a model of this config has; linear layers are `[in, out]`."""
    width = config.d_model
    shapes: dict[str, tuple[int, ...]] = {
        "embed.tokens": (config.vocab_size, width),
        "embed.positions": (config.max_positions, width),
        "embed.patch.weight": (config.patch_size**2, width),
        "embed.patch.bias": (width,),
        "norm": (width,),
    }
    for layer in range(config.n_layers):
        prefix = f"layers.{layer}."
        shapes[prefix + "attention.norm"] = (width,)
        shapes[prefix + "attention.qkv"] = (width, 3 * width)
        shapes[prefix + "attention.out"] = (width, width)
        shapes[prefix + "mlp.norm"] = (width,)
        shapes[prefix + "mlp.up"] = (width, config.d_ff)
        shapes[prefix + "mlp.down"] = (config.d_ff, width)
    return shapes


def load_weights(model_dir: Path, config: ModelConfig) -> Tensors:
    """Load the weights of a model directory; raise `ConfigError` when they do not fit the config."""
    path = model_dir / WEIGHTS_FILE
    try:
        tensors: Tensors = load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        message = f"cannot read the weights {path}: {error}"
        raise ConfigError(message) from error
    check_weights(tensors, config)
    return tensors


def check_weights(tensors: Tensors, config: ModelConfig) -> None:
    """Raise `ConfigError`, naming the tensors, unless names, types and shapes are what the config asks for."""
    wanted = expected_shapes(config)
    if problem := sorted(set(wanted).symmetric_difference(tensors)):
        message = f"{WEIGHTS_FILE}: missing or unknown tensors: {', '.join(problem)}"
        raise ConfigError(message)
    for name, shape in wanted.items():
        found = tensors[name]
        if found.shape != shape or found.dtype != np.float32:
            message = f"{WEIGHTS_FILE}: {name} is {found.dtype}{list(found.shape)}, not float32{list(shape)}"
            raise ConfigError(message)
