"""The transformer in torch, for training only; `digits_vlm.model` is the same function in NumPy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from digits_vlm.weights import expected_shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digits_vlm.config import ModelConfig


class Network(nn.Module):
    """One parameter for each tensor of `expected_shapes`, under the same name with `.` written as `_`."""

    def __init__(self, config: ModelConfig, *, seed: int) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        for name, shape in expected_shapes(config).items():
            self.register_parameter(_attribute(name), nn.Parameter(_initial(name, shape, config, generator)))

    def __getitem__(self, name: str) -> Tensor:
        """Return the tensor called `name` in the weights file."""
        return self.get_parameter(_attribute(name))

    def forward(self, ids: Tensor, patches: Tensor | None) -> Tensor:
        """Return logits `[batch, tokens, vocabulary]`; `patches` is `[batch, n_patches, patch_size²]` or None."""
        length = ids.shape[1]
        prefix = 0 if patches is None else self.config.n_patches
        start = 1 + self.config.n_patches
        places = torch.tensor([*range(1 + prefix), *range(start, start + length - 1 - prefix)])
        x = self["embed.tokens"][ids] + self["embed.positions"][places]
        if patches is not None:
            seen = patches @ self["embed.patch.weight"] + self["embed.patch.bias"]
            seen = seen + self["embed.positions"][1 : 1 + prefix]
            x = torch.cat([x[:, :1], seen, x[:, 1 + prefix :]], dim=1)
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        mask[: 1 + prefix, : 1 + prefix] = True
        for layer in range(self.config.n_layers):
            x = x + self._attend(x, f"layers.{layer}.attention.", mask)
            hidden = self._normed(x, f"layers.{layer}.mlp.norm") @ self[f"layers.{layer}.mlp.up"]
            x = x + functional.gelu(hidden, approximate="tanh") @ self[f"layers.{layer}.mlp.down"]
        return self._normed(x, "norm") @ self["embed.tokens"].T

    def _attend(self, x: Tensor, prefix: str, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        mixed = self._normed(x, prefix + "norm") @ self[prefix + "qkv"]
        query, key, value = mixed.view(batch, length, 3, self.config.n_heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return seen.transpose(1, 2).reshape(batch, length, width) @ self[prefix + "out"]

    def _normed(self, x: Tensor, name: str) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self[name], eps=self.config.norm_eps)

    def tensors(self) -> dict[str, NDArray]:
        """Return the weights as NumPy arrays under the names of the weights file."""
        return {name: self[name].detach().numpy().copy() for name in expected_shapes(self.config)}


def _attribute(name: str) -> str:
    return name.replace(".", "_")


def _initial(name: str, shape: tuple[int, ...], config: ModelConfig, generator: torch.Generator) -> Tensor:
    if name.endswith("norm"):
        return torch.ones(shape)
    if name.endswith("bias"):
        return torch.zeros(shape)
    if name.startswith("embed."):
        spread = 1 / math.sqrt(shape[0]) if "patch" in name else 0.05
        return torch.randn(shape, generator=generator) * spread
    # The two projections that write into the residual stream start smaller, so that its variance does not grow.
    depth = math.sqrt(2 * config.n_layers) if name.endswith(("out", "down")) else 1
    return torch.randn(shape, generator=generator) / (math.sqrt(shape[0]) * depth)
