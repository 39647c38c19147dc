"""The NumPy forward pass against torch's logits, and the cache against a full pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import REFERENCE

from digits_vlm.config import ConfigError, default_model_dir
from digits_vlm.engine import Engine
from digits_vlm.model import ContextLengthError, KeyValueCache
from digits_vlm.preprocess import patches
from digits_vlm.tokenizer import ASSISTANT, BOS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from digits_vlm.preprocess import Array

TOLERANCE = 1e-4


def cases(path: Path) -> Iterator[tuple[list[int], Array | None, Array]]:
    """Yield ids, pixels and torch's logits of every case of a reference file."""
    with np.load(path) as stored:
        for index in range(sum(name.startswith("ids_") for name in stored)):
            pixels = stored.get(f"pixels_{index}")
            yield [int(token) for token in stored[f"ids_{index}"]], pixels, stored[f"logits_{index}"]


def assert_equal_to_torch(engine: Engine, reference: Path) -> None:
    count = 0
    for ids, pixels, wanted in cases(reference):
        rows = None if pixels is None else patches(pixels, engine.config)
        got = engine.model.prefill(ids, rows, KeyValueCache.empty(engine.config))
        assert np.abs(got - wanted).max() < TOLERANCE
        count += 1
    assert count == 12


def test_numpy_and_torch_agree_on_the_tiny_model(engine: Engine) -> None:
    assert_equal_to_torch(engine, REFERENCE / "tiny" / "logits.npz")


def test_numpy_and_torch_agree_on_the_trained_model() -> None:
    reference = REFERENCE / "trained_logits.npz"
    try:
        trained = Engine.load(default_model_dir())
    except ConfigError as error:
        pytest.skip(f"no trained model here: {error}")
    with np.load(reference) as stored:
        digest = str(stored["weights_digest"])
    if trained.identity.weights_digest != digest:
        # Other weights than train.py wrote: their quality is the evaluation's business, and torch never saw them.
        pytest.skip(f"torch's logits are of {digest}, the weights here are {trained.identity.weights_digest}")
    assert_equal_to_torch(trained, reference)


def test_one_token_at_a_time_gives_what_a_whole_pass_gives(engine: Engine) -> None:
    for ids, pixels, wanted in cases(REFERENCE / "tiny" / "logits.npz"):
        prompt = ids.index(ASSISTANT) + 1
        rows = None if pixels is None else patches(pixels, engine.config)
        cache = KeyValueCache.empty(engine.config)
        got = [*engine.model.prefill(ids[:prompt], rows, cache)]
        places = engine.model.places(ids)
        got += [
            engine.model.step(token, place, cache) for token, place in zip(ids[prompt:], places[prompt:], strict=True)
        ]
        assert np.abs(np.stack(got) - wanted).max() < TOLERANCE
        assert cache.length == len(ids)


def test_later_words_do_not_change_earlier_logits(engine: Engine) -> None:
    ids = engine.tokenizer.prompt("count from two to five")
    other = [*ids[:-1], engine.tokenizer.ids["yes"]]
    first = engine.model.prefill(ids, None, KeyValueCache.empty(engine.config))
    second = engine.model.prefill(other, None, KeyValueCache.empty(engine.config))
    assert np.array_equal(first[:-1], second[:-1])
    assert not np.array_equal(first[-1], second[-1])


def test_every_pixel_can_change_the_answer(engine: Engine) -> None:
    ids = engine.tokenizer.prompt("what digit is this", n_patches=16)

    def logits(pixels: Array) -> Array:
        return engine.model.prefill(ids, patches(pixels, engine.config), KeyValueCache.empty(engine.config))[-1]

    blank = np.zeros((8, 8), np.float32)
    for row in range(8):
        for column in range(8):
            inked = blank.copy()
            inked[row, column] = 1
            assert not np.array_equal(logits(inked), logits(blank))


def test_words_stand_at_the_same_places_with_and_without_an_image(engine: Engine) -> None:
    text = engine.model.places(engine.tokenizer.prompt("two"))
    image = engine.model.places(engine.tokenizer.prompt("two", n_patches=16))
    assert text == [0, 17, 18, 19]
    assert image == [*range(17), 17, 18, 19]


def test_a_prompt_must_leave_a_place_to_answer_in(engine: Engine) -> None:
    config = engine.config
    longest = config.max_positions - 1 - config.n_patches
    fits = [BOS] * longest
    engine.model.prefill(fits, None, KeyValueCache.empty(config))
    with pytest.raises(ContextLengthError, match="at most 63"):
        engine.model.prefill([*fits, BOS], None, KeyValueCache.empty(config))
