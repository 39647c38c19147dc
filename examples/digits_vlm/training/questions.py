"""The questions that the model is trained and evaluated on, and their only right answers.

Number pairs for text questions are split like the scans: a held-out pair occurs in no training question of any
kind, in either order of counting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digits_vlm.tokenizer import NUMBER_WORDS, split

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = len(NUMBER_WORDS) - 1
HELD_OUT_SHARE = 0.25
NO_DIGIT = "i see no digit"
NO_IMAGE = "there is no image"

NAME = (
    "What digit is this?",
    "Which digit is this?",
    "What number do you see?",
    "Which number is written here?",
    "Read the digit.",
    "Name this digit.",
)
CAPTION = ("Describe the image.", "Describe this picture.", "What is in the image?", "Caption this image.")
ADD = ("What is the digit plus {}?", "Add {} to this digit.", "What is this number plus {}?")
COUNT_TO = ("Count from zero to this digit.", "Count up to the digit.")
LARGER = ("Is it larger than {}?", "Is this digit larger than {}?", "Is the number greater than {}?")
SMALLER = ("Is it smaller than {}?", "Is this digit smaller than {}?", "Is the number less than {}?")
EVEN = ("Is it even?", "Is this digit even?", "Is the number even?")
ODD = ("Is it odd?", "Is this digit odd?", "Is the number odd?")

COUNT_UP = ("Count from {} to {}.", "Count up from {} to {}.", "Say the numbers from {} to {}.")
COUNT_DOWN = ("Count down from {} to {}.", "Count backwards from {} to {}.", "Count from {} to {}.")
PAIR_LARGER = ("Which is larger, {} or {}?", "Which number is greater, {} or {}?")
PAIR_SMALLER = ("Which is smaller, {} or {}?", "Which number is less, {} or {}?")
IS_LARGER = ("Is {} larger than {}?", "Is {} greater than {}?")
IS_SMALLER = ("Is {} smaller than {}?", "Is {} less than {}?")
AFTER = ("What comes after {}?", "Which number follows {}?")
BEFORE = ("What comes before {}?",)


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt with its answer; `kind` groups questions that ask for the same thing."""

    kind: str
    prompt: str
    answer: str


def word(number: int) -> str:
    """Return the name of a number from 0 to 20."""
    return NUMBER_WORDS[number]


def image_questions(digit: int) -> Iterator[Question]:
    """Yield every question about a scan of `digit` that has a word or a sentence for its answer."""
    for prompt in NAME:
        yield Question("name", prompt, word(digit))
    for prompt in CAPTION:
        yield Question("caption", prompt, f"a handwritten {word(digit)}")
    for more in (1, 2, 3):
        for prompt in ADD:
            yield Question("add", prompt.format(word(more)), word(digit + more))
    for prompt in COUNT_TO:
        yield Question("count", prompt, _run(0, digit))


def yes_no_questions(digit: int) -> Iterator[Question]:
    """Yield every yes-or-no question about a scan of `digit`."""
    for other in range(10):
        for prompt in LARGER:
            yield Question("larger", prompt.format(word(other)), _yes(digit > other))
        for prompt in SMALLER:
            yield Question("smaller", prompt.format(word(other)), _yes(digit < other))
    for prompt in EVEN:
        yield Question("parity", prompt, _yes(digit % 2 == 0))
    for prompt in ODD:
        yield Question("parity", prompt, _yes(digit % 2 == 1))


def pair_questions(low: int, high: int) -> Iterator[Question]:
    """Yield every text question about two numbers, `low` ≤ `high`."""
    for prompt in COUNT_UP:
        yield Question("count_up", prompt.format(word(low), word(high)), _run(low, high))
    if low == high:
        return
    for prompt in COUNT_DOWN:
        yield Question("count_down", prompt.format(word(high), word(low)), _run(high, low))
    for first, second in ((low, high), (high, low)):
        pair = (word(first), word(second))
        for prompt in PAIR_LARGER:
            yield Question("compare", prompt.format(*pair), word(high))
        for prompt in PAIR_SMALLER:
            yield Question("compare", prompt.format(*pair), word(low))
        for prompt in IS_LARGER:
            yield Question("compare_yesno", prompt.format(*pair), _yes(first > second))
        for prompt in IS_SMALLER:
            yield Question("compare_yesno", prompt.format(*pair), _yes(first < second))


def neighbour_questions() -> Iterator[Question]:
    """Yield the questions about one number; there are too few of them to hold any out."""
    for number in range(TOP):
        for prompt in AFTER:
            yield Question("after", prompt.format(word(number)), word(number + 1))
        for prompt in BEFORE:
            yield Question("before", prompt.format(word(number + 1)), word(number))


def number_pairs(seed: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the pairs (`low`, `high`) to train on and those held out."""
    pairs = [(low, high) for low in range(TOP + 1) for high in range(low, TOP + 1)]
    random.Random(seed).shuffle(pairs)
    held_out = round(len(pairs) * HELD_OUT_SHARE)
    return sorted(pairs[held_out:]), sorted(pairs[:held_out])


def vocabulary() -> list[str]:
    """Return every word and mark of all questions and answers, numbers first."""
    words: dict[str, None] = dict.fromkeys(NUMBER_WORDS)
    questions = [question for digit in range(10) for question in image_questions(digit)]
    questions += [question for digit in range(10) for question in yes_no_questions(digit)]
    questions += [*pair_questions(0, 1), *neighbour_questions()]
    texts = [NO_DIGIT, NO_IMAGE, *(text for question in questions for text in (question.prompt, question.answer))]
    words.update(dict.fromkeys(sorted({piece for text in texts for piece in split(text)})))
    return list(words)


def _run(first: int, last: int) -> str:
    step = 1 if last >= first else -1
    return " ".join(word(number) for number in range(first, last + step, step))


def _yes(true: bool) -> str:  # noqa: FBT001  the question is the argument
    return "yes" if true else "no"
