"""From a question and perhaps a picture to an answer: tokenizer, model and sampling together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from digits_vlm.config import ModelConfig
from digits_vlm.manifest import Identity, identify
from digits_vlm.model import Array, KeyValueCache, Model
from digits_vlm.preprocess import patches
from digits_vlm.tokenizer import EOS, Tokenizer
from digits_vlm.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose words: greedily at temperature 0, else at random with `seed`."""

    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer; the counts are in tokens, image patches included."""

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded model directory. Safe to call from several threads."""

    config: ModelConfig
    tokenizer: Tokenizer
    model: Model
    identity: Identity

    @classmethod
    def load(cls, model_dir: Path) -> Engine:
        """Load config, tokenizer and weights; raise `ConfigError` when they cannot be used."""
        config = ModelConfig.read(model_dir)
        model = Model(config, load_weights(model_dir, config))
        return cls(config, Tokenizer.read(model_dir), model, identify(model_dir))

    def answer(self, question: str, *, pixels: Array | None = None, sampling: Sampling | None = None) -> Answer:
        """Answer `question` about the picture (shape `[size, size]`, 0 to 1), or about none."""
        sampling = sampling or Sampling(max_tokens=self.config.max_tokens, temperature=self.config.temperature)
        ids = self.tokenizer.prompt(question, n_patches=0 if pixels is None else self.config.n_patches)
        rows = None if pixels is None else patches(pixels, self.config)
        written = list(self.generate(ids, rows, sampling))
        ended = bool(written) and written[-1] == EOS
        return Answer(
            text=self.tokenizer.decode(written),
            finish_reason="stop" if ended else "length",
            prompt_tokens=len(ids),
            completion_tokens=len(written),
        )

    def generate(self, ids: list[int], rows: Array | None, sampling: Sampling) -> Iterator[int]:
        """Yield token ids until `<eos>` (which is yielded), `max_tokens`, or the last position."""
        cache = KeyValueCache.empty(self.config)
        random = np.random.default_rng(sampling.seed)
        logits = self.model.prefill(ids, rows, cache)[-1]
        position = self.model.places(ids)[-1] + 1
        for _ in range(sampling.max_tokens):
            token = _choose(logits, sampling.temperature, random)
            yield token
            if token == EOS or position >= self.config.max_positions:
                return
            logits = self.model.step(token, position, cache)
            position += 1


def _choose(logits: Array, temperature: float, random: np.random.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    # Adding Gumbel noise and taking the maximum draws from the softmax, without forming it.
    return int((logits / temperature + random.gumbel(size=logits.shape)).argmax())
