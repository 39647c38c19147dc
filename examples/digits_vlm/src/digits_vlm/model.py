"""The transformer's forward pass in NumPy, with a key-value cache.

Pre-norm blocks (RMSNorm, multi-head attention, GELU MLP), learned positions, tied output embedding. Attention is
causal, but `<bos>` and the image patches see each other in both directions. One sequence at a time: the model
is so small that batching would only add latency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from digits_vlm.tokenizer import IMAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from digits_vlm.config import ModelConfig
    from digits_vlm.weights import Tensors

Array = NDArray[np.float32]
_GELU = np.float32(math.sqrt(2 / math.pi))
_GELU_CUBE = np.float32(0.044715)
_HALF = np.float32(0.5)
_ONE = np.float32(1)


class ContextLengthError(ValueError):
    """The prompt leaves no position for an answer."""


@dataclass(slots=True)
class KeyValueCache:
    """Keys and values of one sequence, shape `[layers, heads, positions, head]`; `length` slots are filled."""

    keys: Array
    values: Array
    length: int = 0

    @classmethod
    def empty(cls, config: ModelConfig) -> KeyValueCache:
        """Return a cache with room for the longest sequence the model takes."""
        shape = (config.n_layers, config.n_heads, config.max_positions, config.head_size)
        return cls(keys=np.empty(shape, np.float32), values=np.empty(shape, np.float32))


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Array
    qkv: Array
    out: Array
    mlp_norm: Array
    up: Array
    down: Array


class Model:
    """Weights and config, ready to run; holds no state of a sequence, so threads may share one."""

    def __init__(self, config: ModelConfig, tensors: Tensors) -> None:
        self.config = config
        self._tokens = tensors["embed.tokens"]
        self._unembed = np.ascontiguousarray(self._tokens.T)
        self._positions = tensors["embed.positions"]
        self._patch_weight = tensors["embed.patch.weight"]
        self._patch_bias = tensors["embed.patch.bias"]
        self._norm = tensors["norm"]
        self._scale = np.float32(1 / math.sqrt(config.head_size))
        self._layers = [_layer(tensors, index) for index in range(config.n_layers)]

    def prefill(self, ids: Sequence[int], patches: Array | None, cache: KeyValueCache) -> Array:
        """Read a whole prompt into an empty cache and return the logits after each of its tokens.

        `ids` must hold one `<image>` for each row of `patches`, right after `<bos>`. Returns `[tokens, vocabulary]`.
        Raises `ContextLengthError` when no position would be left to answer in.
        """
        places = self.places(ids)
        if places[-1] + 1 >= self.config.max_positions:
            room = self.config.max_positions - 1
            message = f"the prompt takes {places[-1] + 1} positions; at most {room} can be read"
            raise ContextLengthError(message)
        x = self._tokens[list(ids)] + self._positions[places]
        prefix = ids.count(IMAGE)
        if patches is not None:
            x[1 : 1 + prefix] = patches @ self._patch_weight + self._patch_bias + self._positions[1 : 1 + prefix]
        mask = np.triu(np.full((len(ids), len(ids)), -np.inf, np.float32), k=1)
        mask[: 1 + prefix, : 1 + prefix] = 0
        return self._forward(x, cache, mask)

    def step(self, token: int, position: int, cache: KeyValueCache) -> Array:
        """Read one more token at `position` and return the logits after it, shape `[vocabulary]`."""
        x = self._tokens[token : token + 1] + self._positions[position : position + 1]
        return self._forward(x, cache, None)[0]

    def places(self, ids: Sequence[int]) -> list[int]:
        """Return each token's position; words start behind the image's places even when there is no image."""
        first_word = 1 + ids.count(IMAGE)
        start = 1 + self.config.n_patches
        return [index if index < first_word else start + index - first_word for index in range(len(ids))]

    def _forward(self, x: Array, cache: KeyValueCache, mask: Array | None) -> Array:
        for index, layer in enumerate(self._layers):
            x = x + self._attend(self._normed(x, layer.attention_norm), layer, index, cache, mask)
            x = x + _gelu(self._normed(x, layer.mlp_norm) @ layer.up) @ layer.down
        cache.length += len(x)
        return self._normed(x, self._norm) @ self._unembed

    def _attend(self, x: Array, layer: _Layer, index: int, cache: KeyValueCache, mask: Array | None) -> Array:
        count = len(x)
        # [tokens, 3 · heads · head] → three arrays of [heads, tokens, head]
        query, key, value = (x @ layer.qkv).reshape(count, 3, self.config.n_heads, -1).transpose(1, 2, 0, 3)
        end = cache.length + count
        cache.keys[index, :, cache.length : end] = key
        cache.values[index, :, cache.length : end] = value
        scores = (query @ cache.keys[index, :, :end].transpose(0, 2, 1)) * self._scale
        if mask is not None:
            scores += mask
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = scores @ cache.values[index, :, :end]
        return mixed.transpose(1, 0, 2).reshape(count, -1) @ layer.out

    def _normed(self, x: Array, weight: Array) -> Array:
        mean = np.einsum("td,td->t", x, x)[:, None] / np.float32(x.shape[-1])
        return x * (_ONE / np.sqrt(mean + np.float32(self.config.norm_eps))) * weight


def _gelu(x: Array) -> Array:
    # The tanh form: NumPy has no erf, and training uses the same form.
    return _HALF * x * (_ONE + np.tanh(_GELU * (x + _GELU_CUBE * x * x * x)))


def _layer(tensors: Tensors, index: int) -> _Layer:
    prefix = f"layers.{index}."
    return _Layer(
        attention_norm=tensors[prefix + "attention.norm"],
        qkv=tensors[prefix + "attention.qkv"],
        out=tensors[prefix + "attention.out"],
        mlp_norm=tensors[prefix + "mlp.norm"],
        up=tensors[prefix + "mlp.up"],
        down=tensors[prefix + "mlp.down"],
    )
