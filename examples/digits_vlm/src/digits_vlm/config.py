"""The model's shape and its generation defaults, as `config.json` states them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "weights/model.safetensors"


class ConfigError(ValueError):
    """A model directory that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes of the transformer and of its image input.

    Lengths are counted in tokens (`max_positions`, `max_tokens`) or pixels (`image_size`, `patch_size`,
    `patch_stride`, `patch_padding`).
    """

    name: str
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    vocab_size: int
    max_positions: int
    image_size: int
    patch_size: int
    patch_stride: int
    patch_padding: int
    norm_eps: float
    temperature: float
    max_tokens: int

    @property
    def head_size(self) -> int:
        """Return the width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def patches_per_side(self) -> int:
        """Return how many patches stand along one edge of the image."""
        return (self.image_size + 2 * self.patch_padding - self.patch_size) // self.patch_stride + 1

    @property
    def n_patches(self) -> int:
        """Return how many positions an image takes."""
        return self.patches_per_side**2

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Build a config from parsed JSON; raise `ConfigError` on missing, unknown or impossible values."""
        known = {field.name for field in fields(cls)}
        if problem := sorted(known.symmetric_difference(values)):
            message = f"{CONFIG_FILE}: missing or unknown keys: {', '.join(problem)}"
            raise ConfigError(message)
        config = cls(**values)
        if config.d_model % config.n_heads:
            message = f"{CONFIG_FILE}: d_model {config.d_model} is not a multiple of n_heads {config.n_heads}"
            raise ConfigError(message)
        return config

    @classmethod
    def read(cls, model_dir: Path) -> ModelConfig:
        """Read `config.json` of a model directory."""
        path = model_dir / CONFIG_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            message = f"{path} not found; name the model directory with --model-dir or DIGITS_VLM_MODEL_DIR"
            raise ConfigError(message) from error
        except ValueError as error:
            message = f"{path} is not JSON: {error}"
            raise ConfigError(message) from error
        return cls.from_dict(values)


def default_model_dir() -> Path:
    """Return `DIGITS_VLM_MODEL_DIR`, else the checkout this module lies in, else the working directory."""
    if named := os.environ.get("DIGITS_VLM_MODEL_DIR"):
        return Path(named)
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / CONFIG_FILE).is_file() else Path.cwd()
