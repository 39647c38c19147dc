"""Logits that torch computed, for the tests that hold the NumPy model against them.

`python -m training.reference` writes a tiny random model with its logits: the unit tests use it, so that they
judge the code and not the committed weights. `train.py` writes logits of the trained weights in the same form.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.numpy import save_file

from digits_vlm import manifest
from digits_vlm.config import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, ModelConfig
from digits_vlm.preprocess import read_pixels
from digits_vlm.tokenizer import Tokenizer
from training.batches import image_patches
from training.network import Network
from training.questions import vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = 4
ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests" / "reference" / "tiny"


def write_reference(network: Network, tokenizer: Tokenizer, path: Path, *, weights_digest: str) -> None:
    """Write the logits of a few evaluation samples, prompt and answer, with and without an image, to `path`.

    The weights file is named by its digest, so that a test can tell a stale reference from a wrong model.
    """
    arrays: dict[str, np.ndarray] = {"weights_digest": np.array(weights_digest)}
    for index, (ids, pixels) in enumerate(_cases(network.config, tokenizer, ROOT / "evals")):
        rows = None if pixels is None else image_patches(torch.from_numpy(pixels)[None], network.config)
        with torch.no_grad():
            logits = network(torch.tensor([ids]), rows)[0]
        arrays[f"ids_{index}"] = np.array(ids)
        arrays[f"logits_{index}"] = logits.numpy()
        if pixels is not None:
            arrays[f"pixels_{index}"] = pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def _cases(config: ModelConfig, tokenizer: Tokenizer, evals: Path) -> Iterator[tuple[list[int], np.ndarray | None]]:
    for suite in ("image", "image_yesno", "text"):
        lines = (evals / f"{suite}.jsonl").read_text(encoding="utf-8").splitlines()
        for line in lines[:CASES]:
            sample = json.loads(line)
            pixels = None
            if "image" in sample:
                pixels = read_pixels((evals / sample["image"]).read_bytes(), image_size=config.image_size)
            prompt = tokenizer.prompt(sample["prompt"], n_patches=0 if pixels is None else config.n_patches)
            yield prompt + tokenizer.encode(sample["expected"]), pixels


def main() -> None:
    """Write the tiny model."""
    tokenizer = Tokenizer.from_words(vocabulary())
    config = dataclasses.replace(
        ModelConfig.read(ROOT), name="tiny", d_model=16, n_layers=2, n_heads=2, d_ff=32, max_positions=64
    )
    network = Network(config, seed=1)
    (TINY / "weights").mkdir(parents=True, exist_ok=True)
    (TINY / CONFIG_FILE).write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", encoding="utf-8")
    (TINY / TOKENIZER_FILE).write_text(tokenizer.to_json(), encoding="utf-8")
    save_file(network.tensors(), TINY / WEIGHTS_FILE)
    (TINY / manifest.LOCK_FILE).write_text(manifest.render(TINY), encoding="utf-8")
    write_reference(network, tokenizer, TINY / "logits.npz", weights_digest=manifest.identify(TINY).weights_digest)


if __name__ == "__main__":
    main()
