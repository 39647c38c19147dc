"""A word tokenizer: lower case, words and punctuation, digits spelled out.

The vocabulary is closed. A word outside it becomes `<unk>`; nothing is split further.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from digits_vlm.config import TOKENIZER_FILE, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SPECIALS = ("<pad>", "<unk>", "<bos>", "<image>", "<user>", "<assistant>", "<eos>")
PAD, UNK, BOS, IMAGE, USER, ASSISTANT, EOS = range(len(SPECIALS))
# fmt: off
NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six",
    "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)
# fmt: on
_PIECE = re.compile(r"[a-z]+|\d+|[^\sa-z\d]")


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Map text to token ids and back; `words[i]` is the text of token `i`."""

    words: tuple[str, ...]
    ids: dict[str, int]

    @classmethod
    def from_words(cls, words: Iterable[str]) -> Tokenizer:
        """Build a tokenizer from ordinary words; the specials come first, then the words in order."""
        table = (*SPECIALS, *words)
        ids = {word: index for index, word in enumerate(table)}
        if len(ids) != len(table):
            message = f"{TOKENIZER_FILE}: a word occurs twice"
            raise ConfigError(message)
        return cls(words=table, ids=ids)

    @classmethod
    def read(cls, model_dir: Path) -> Tokenizer:
        """Read `tokenizer.json` of a model directory; raise `ConfigError` when it cannot be used."""
        path = model_dir / TOKENIZER_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError) as error:
            message = f"cannot read the tokenizer {path}: {error}"
            raise ConfigError(message) from error
        if tuple(values.get("specials", ())) != SPECIALS:
            message = f"{TOKENIZER_FILE}: specials must be {list(SPECIALS)}"
            raise ConfigError(message)
        return cls.from_words(values.get("words", ()))

    def to_json(self) -> str:
        """Return the text of `tokenizer.json`."""
        values = {"type": "words", "specials": list(SPECIALS), "words": list(self.words[len(SPECIALS) :])}
        return json.dumps(values, indent=1) + "\n"

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without any special token but `<unk>`."""
        return [self.ids.get(piece, UNK) for piece in split(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words of `ids` with single spaces between them; specials are left out."""
        return " ".join(self.words[index] for index in ids if index >= len(SPECIALS))

    def prompt(self, text: str, *, n_patches: int = 0) -> list[int]:
        """Return the ids that ask the model `text`, with room for `n_patches` patches after `<bos>`."""
        return [BOS, *[IMAGE] * n_patches, USER, *self.encode(text), ASSISTANT]


def split(text: str) -> list[str]:
    """Return the words and marks of `text`, in lower case, with the numbers 0 to 20 spelled out."""
    return [_spelled(piece) for piece in _PIECE.findall(text.lower())]


def _spelled(piece: str) -> str:
    if piece.isascii() and piece.isdigit() and len(piece) <= len("20") and int(piece) < len(NUMBER_WORDS):
        return NUMBER_WORDS[int(piece)]
    return piece
