"""Train the model on the committed scans and write everything that depends on its weights.

`PYTHONPATH=src python train.py` (torch, one CPU core, 15 minutes when it is idle) writes `weights/model.safetensors`,
`tokenizer.json`, `model.lock`, `training_summary.json` and `tests/reference/trained_logits.npz`. The seed fixes every
random choice. `--minutes` ends a run early; how far it came is recorded.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.nn import functional

from digits_vlm import manifest
from digits_vlm.config import TOKENIZER_FILE, WEIGHTS_FILE, ModelConfig
from digits_vlm.tokenizer import PAD, Tokenizer
from training.batches import Batches
from training.network import Network
from training.questions import vocabulary
from training.reference import write_reference
from training.scans import SPLIT_SEED, data_digest, read_sheet

ROOT = Path(__file__).resolve().parent
REFERENCE = "tests/reference/trained_logits.npz"
SUMMARY = "training_summary.json"
WARM_UP = 200
LOG_EVERY = 100


class Trainer:
    """AdamW with a warm-up and a cosine to zero, and a moving average of the weights, which is what is kept."""

    def __init__(self, network: Network, *, peak: float, decay: float = 0.998) -> None:
        self.network = network
        self.average = {name: value.detach().clone() for name, value in network.named_parameters()}
        self._peak = peak
        self._decay = decay
        matrices = [value for value in network.parameters() if value.ndim > 1]
        vectors = [value for value in network.parameters() if value.ndim == 1]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))

    def step(self, loss: torch.Tensor, *, step: int, progress: float) -> None:
        """Follow the gradient of `loss`; `progress` runs from 0 to 1 over the whole run."""
        rate = self._peak * min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1, progress)))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        with torch.no_grad():
            decay = min(self._decay, (1 + step) / (10 + step))
            for name, value in self.network.named_parameters():
                self.average[name].lerp_(value, 1 - decay)

    def keep_average(self) -> None:
        """Put the averaged weights into the network."""
        with torch.no_grad():
            for name, value in self.network.named_parameters():
                value.copy_(self.average[name])


def train(trainer: Trainer, batches: Batches, options: argparse.Namespace) -> tuple[int, list[dict[str, float]]]:
    """Train until the steps or the minutes are used up; return the number of steps and the loss curve."""
    curve: list[dict[str, float]] = []
    sums = {"image": 0.0, "text": 0.0}
    started = time.perf_counter()
    step = 0
    while step < options.steps and (spent := (time.perf_counter() - started) / 60) < options.minutes:
        losses = {}
        for kind, batch in (("image", batches.image(options.batch)), ("text", batches.text(options.batch // 2))):
            logits = trainer.network(batch.ids, batch.patches)
            losses[kind] = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=PAD)
            sums[kind] += losses[kind].item()
        progress = max(step / options.steps, spent / options.minutes)
        trainer.step(losses["image"] + losses["text"] / 2, step=step, progress=progress)
        step += 1
        if step % LOG_EVERY == 0:
            point = {"step": step, **{kind: round(value / LOG_EVERY, 4) for kind, value in sums.items()}}
            sums = dict.fromkeys(sums, 0.0)
            curve.append(point)
            print(f"{point} {progress:.0%}", flush=True)
    return step, curve


def write_model(network: Network, tokenizer: Tokenizer) -> None:
    """Write weights, tokenizer and lock."""
    path = ROOT / WEIGHTS_FILE
    path.parent.mkdir(exist_ok=True)
    save_file(network.tensors(), path)
    (ROOT / TOKENIZER_FILE).write_text(tokenizer.to_json(), encoding="utf-8")
    (ROOT / manifest.LOCK_FILE).write_text(manifest.render(ROOT), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the digits model.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=64, help="image questions a step; half as many text questions")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--job-id", default=None, help="recorded in the summary; default: made from the time")
    return parser.parse_args()


def main() -> None:
    """Train, then write the model, the reference logits and the summary."""
    options = _options()
    torch.set_num_threads(options.threads)
    started = datetime.now(UTC)
    config = ModelConfig.read(ROOT)
    tokenizer = Tokenizer.from_words(vocabulary())
    pixels, labels = read_sheet(ROOT / "data")
    batches = Batches(
        config,
        tokenizer,
        scans=torch.from_numpy(pixels),
        labels=[int(label) for label in labels],
        seed=options.seed,
        pair_seed=SPLIT_SEED,
    )
    network = Network(config, seed=options.seed)
    trainer = Trainer(network, peak=options.rate)
    steps, curve = train(trainer, batches, options)
    trainer.keep_average()
    write_model(network, tokenizer)
    weights_digest = manifest.identify(ROOT).weights_digest
    write_reference(network, tokenizer, ROOT / REFERENCE, weights_digest=weights_digest)
    summary: dict[str, Any] = {
        "job_id": options.job_id or f"train-{started:%Y%m%dT%H%M%SZ}-seed{options.seed}",
        "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "minutes": round((datetime.now(UTC) - started).total_seconds() / 60, 2),
        "data_digest": data_digest(ROOT / "data"),
        "split_seed": SPLIT_SEED,
        "seed": options.seed,
        "steps": steps,
        "batch": {"image": options.batch, "text": options.batch // 2},
        "peak_learning_rate": options.rate,
        "parameters": sum(value.size for value in network.tensors().values()),
        "torch": torch.__version__.partition("+")[0],
        "numpy": np.__version__,
        "weights_digest": weights_digest,
        "loss_curve": curve,
    }
    (ROOT / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
