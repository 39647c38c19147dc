from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from digits_vlm.config import WEIGHTS_FILE, ConfigError
from digits_vlm.engine import Engine
from digits_vlm.weights import expected_shapes, load_weights

if TYPE_CHECKING:
    from pathlib import Path

NAME = "layers.0.mlp.up"


def test_missing_weights_are_named(model_dir: Path, engine: Engine) -> None:
    (model_dir / WEIGHTS_FILE).unlink()
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        load_weights(model_dir, engine.config)


def test_a_damaged_file_is_refused(model_dir: Path, engine: Engine) -> None:
    (model_dir / WEIGHTS_FILE).write_bytes(b"\xff" * 100)
    with pytest.raises(ConfigError, match="cannot read the weights"):
        load_weights(model_dir, engine.config)


def test_every_tensor_must_be_there_and_no_other(model_dir: Path, engine: Engine) -> None:
    tensors = load_file(model_dir / WEIGHTS_FILE)
    tensors["surplus"] = tensors.pop(NAME)
    save_file(tensors, model_dir / WEIGHTS_FILE)
    with pytest.raises(ConfigError, match=rf"{NAME}, surplus"):
        load_weights(model_dir, engine.config)


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.float32), np.zeros((16, 32), np.float16)])
def test_a_tensor_of_another_shape_or_type_is_named(model_dir: Path, engine: Engine, bad: np.ndarray) -> None:
    save_file(load_file(model_dir / WEIGHTS_FILE) | {NAME: bad}, model_dir / WEIGHTS_FILE)
    with pytest.raises(ConfigError, match=rf"{NAME} is float.*not float32\[16, 32\]"):
        load_weights(model_dir, engine.config)


def test_zeroed_weights_load_and_answer_nonsense(model_dir: Path, engine: Engine) -> None:
    """Whether a model is any good is for the evaluation to say, not for the loader."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in expected_shapes(engine.config).items()}
    save_file(zeros, model_dir / WEIGHTS_FILE)
    zeroed = Engine.load(model_dir)
    answer = zeroed.answer("What digit is this?", pixels=np.ones((8, 8), np.float32))
    assert (answer.text, answer.finish_reason) == ("", "length")
    assert not zeroed.identity.locked
