"""Training batches: questions in their prompts, scans shifted, turned and stretched a little."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from digits_vlm.tokenizer import EOS, PAD, Tokenizer
from training import questions

if TYPE_CHECKING:
    from digits_vlm.config import ModelConfig
    from training.questions import Question

LENGTH_STEP = 8
BLANK_SHARE = 0.02
NO_IMAGE_SHARE = 0.02
NEIGHBOUR_SHARE = 0.1
# How often each kind is drawn. Naming comes first: the other image questions need nothing else from the scan.
IMAGE_KINDS = {"name": 4, "caption": 2, "add": 3, "count": 2, "larger": 3, "smaller": 3, "parity": 2}
PAIR_KINDS = {"count_up": 3, "count_down": 3, "compare": 3, "compare_yesno": 4}
_TURN = math.radians(10)
_STRETCH = 0.1
_SHIFT = 1.2 / 4  # grid_sample measures in half images: 1.2 pixels of 8
_NOISE = 0.04


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids, what should follow each of them (`PAD` where it does not matter), and the patches or None."""

    ids: Tensor
    targets: Tensor
    patches: Tensor | None


class Batches:
    """An endless supply of training batches, the same for the same seed."""

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer, *, scans: Tensor, labels: list[int], seed: int, pair_seed: int
    ) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._scans = scans
        self._labels = labels
        self._random = random.Random(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._image = [
            _by_kind([*questions.image_questions(digit), *questions.yes_no_questions(digit)]) for digit in range(10)
        ]
        self._pairs = [_by_kind(list(questions.pair_questions(*pair))) for pair in questions.number_pairs(pair_seed)[0]]
        self._neighbours = list(questions.neighbour_questions())

    def image(self, size: int) -> Batch:
        """Return `size` questions about scans, a few of them about a picture without any ink or contrast."""
        chosen = [self._random.randrange(len(self._labels)) for _ in range(size)]
        asked = [self._draw(self._image[self._labels[index]], IMAGE_KINDS) for index in chosen]
        scans = self._augmented(self._scans[chosen])
        for row in range(size):
            if self._random.random() < BLANK_SHARE:
                scans[row] = self._random.choice((0.0, 0.0, 1.0, self._random.random()))
                asked[row] = questions.Question("blank", asked[row].prompt, questions.NO_DIGIT)
        return self._batch(asked, image_patches(scans, self._config))

    def text(self, size: int) -> Batch:
        """Return `size` text questions, a few of them about an image that is not there."""
        return self._batch([self._text_question() for _ in range(size)], None)

    def _text_question(self) -> Question:
        roll = self._random.random()
        if roll < NO_IMAGE_SHARE:
            asked = self._draw(self._random.choice(self._image), IMAGE_KINDS)
            return questions.Question("no_image", asked.prompt, questions.NO_IMAGE)
        if roll < NO_IMAGE_SHARE + NEIGHBOUR_SHARE:
            return self._random.choice(self._neighbours)
        return self._draw(self._random.choice(self._pairs), PAIR_KINDS)

    def _draw(self, by_kind: dict[str, list[Question]], weights: dict[str, int]) -> Question:
        kinds = list(by_kind)
        kind = self._random.choices(kinds, [weights[kind] for kind in kinds])[0]
        return self._random.choice(by_kind[kind])

    def _batch(self, asked: list[Question], patches: Tensor | None) -> Batch:
        n_patches = 0 if patches is None else self._config.n_patches
        prompts = [self._tokenizer.prompt(question.prompt, n_patches=n_patches) for question in asked]
        answers = [[*self._tokenizer.encode(question.answer), EOS] for question in asked]
        length = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)) - 1
        # Few different lengths: torch prepares its kernels anew for every shape it meets.
        length = min(-(-length // LENGTH_STEP) * LENGTH_STEP, self._longest(n_patches))
        ids = torch.full((len(asked), length), PAD)
        targets = torch.full((len(asked), length), PAD)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            whole = prompt + answer
            ids[row, : len(whole) - 1] = torch.tensor(whole[:-1])
            targets[row, len(prompt) - 1 : len(whole) - 1] = torch.tensor(answer)
        return Batch(ids, targets, patches)

    def _longest(self, n_patches: int) -> int:
        """Return how many tokens fit into the model's positions; text leaves the image's places empty."""
        return self._config.max_positions - self._config.n_patches + n_patches

    def _augmented(self, scans: Tensor) -> Tensor:
        count = len(scans)

        def spread(size: float) -> Tensor:
            return (torch.rand(count, generator=self._generator) * 2 - 1) * size

        angle, wide, high, shear = spread(_TURN), 1 + spread(_STRETCH), 1 + spread(_STRETCH), spread(_STRETCH)
        rows = [
            angle.cos() * wide,
            shear - angle.sin(),
            spread(_SHIFT),
            angle.sin(),
            angle.cos() * high,
            spread(_SHIFT),
        ]
        grid = functional.affine_grid(
            torch.stack(rows, dim=1).view(count, 2, 3), [count, 1, *scans.shape[1:]], align_corners=False
        )
        moved = functional.grid_sample(scans[:, None], grid, align_corners=False)[:, 0]
        moved = moved + torch.randn(moved.shape, generator=self._generator) * _NOISE
        return moved.clamp(0, 1)


def image_patches(scans: Tensor, config: ModelConfig) -> Tensor:
    """Cut scans (`[n, size, size]`) into patches as `digits_vlm.preprocess.patches` does, `[n, n_patches, patch²]`."""
    cut = functional.unfold(scans[:, None], config.patch_size, padding=config.patch_padding, stride=config.patch_stride)
    return cut.transpose(1, 2)


def _by_kind(asked: list[Question]) -> dict[str, list[Question]]:
    kinds: dict[str, list[Question]] = {}
    for question in asked:
        kinds.setdefault(question.kind, []).append(question)
    return kinds
