from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import REFERENCE

from digits_vlm.engine import Engine, Sampling
from digits_vlm.model import KeyValueCache, Model
from digits_vlm.tokenizer import EOS
from digits_vlm.weights import load_weights

if TYPE_CHECKING:
    from digits_vlm.preprocess import Array


@pytest.fixture
def pixels(scan: np.ndarray) -> Array:
    return scan.astype(np.float32) / 255


def ends_at_once(engine: Engine) -> Engine:
    """Return the engine with an `<eos>` that outweighs every other token."""
    tensors = load_weights(REFERENCE / "tiny", engine.config)
    tensors["norm"][:] = 0
    tensors["norm"][0] = 1
    tensors["embed.tokens"][:, 0] = 0
    tensors["embed.tokens"][EOS, 0] = 1
    tensors["embed.positions"][:, 0] = 1
    tensors["embed.patch.bias"][0] = 1
    for layer in range(engine.config.n_layers):
        tensors[f"layers.{layer}.attention.out"][:] = 0
        tensors[f"layers.{layer}.mlp.down"][:] = 0
    return Engine(engine.config, engine.tokenizer, Model(engine.config, tensors), engine.identity)


def test_tokens_are_counted_with_the_patches(engine: Engine, pixels: Array) -> None:
    asked = engine.answer("two", pixels=pixels, sampling=Sampling(max_tokens=3))
    assert asked.prompt_tokens == 1 + 16 + 3
    assert asked.completion_tokens == 3
    assert engine.answer("two", sampling=Sampling(max_tokens=3)).prompt_tokens == 4


def test_an_answer_that_ends_says_stop(engine: Engine, pixels: Array) -> None:
    answer = ends_at_once(engine).answer("two", pixels=pixels)
    assert (answer.text, answer.finish_reason, answer.completion_tokens) == ("", "stop", 1)


def test_an_answer_that_is_cut_says_length(engine: Engine) -> None:
    assert engine.answer("two", sampling=Sampling(max_tokens=1)).finish_reason == "length"


def test_generation_ends_at_the_last_position(engine: Engine) -> None:
    answer = engine.answer("two", sampling=Sampling(max_tokens=1000))
    # <bos> at 0, sixteen places of the image left empty, three tokens of prompt at 17 to 19.
    assert answer.completion_tokens <= engine.config.max_positions - 20 + 1


def test_greedy_answers_repeat_and_seeds_repeat(engine: Engine, pixels: Array) -> None:
    question = "what digit is this?"
    assert engine.answer(question, pixels=pixels) == engine.answer(question, pixels=pixels)
    warm = [Sampling(max_tokens=8, temperature=2.0, seed=seed) for seed in (1, 1, 2, 3, 4)]
    drawn = [engine.answer(question, pixels=pixels, sampling=sampling).text for sampling in warm]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_sampling_follows_the_softmax(engine: Engine) -> None:
    ids = engine.tokenizer.prompt("two")
    logits = engine.model.prefill(ids, None, KeyValueCache.empty(engine.config))[-1]
    share = np.exp(logits - logits.max())
    share /= share.sum()
    draws = 400
    first = [
        next(engine.generate(ids, None, Sampling(max_tokens=1, temperature=1.0, seed=seed))) for seed in range(draws)
    ]
    top = int(share.argmax())
    # Five standard deviations: a wrong distribution is seen, the fixed seeds are not on the edge.
    spread = 5 * np.sqrt(share[top] * (1 - share[top]) / draws)
    assert abs(first.count(top) / draws - share[top]) < spread


def test_threads_do_not_disturb_each_other(engine: Engine, pixels: Array) -> None:
    questions = ["what digit is this?", "count from two to five", "is it even?", "describe the image"] * 5
    alone = [engine.answer(question, pixels=pixels).text for question in questions]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda question: engine.answer(question, pixels=pixels).text, questions))
    assert together == alone
