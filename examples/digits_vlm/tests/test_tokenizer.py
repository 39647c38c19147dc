from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from digits_vlm.config import ConfigError
from digits_vlm.tokenizer import ASSISTANT, BOS, EOS, IMAGE, SPECIALS, UNK, USER, Tokenizer, split

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_words(["count", "from", "to", "two", "five", "."])


def test_words_come_back_as_they_went_in(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("count from two to five")) == "count from two to five"


def test_case_and_space_do_not_matter(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("  Count\nFROM two") == tokenizer.encode("count from two")


@pytest.mark.parametrize(("text", "words"), [("2 to 20.", ["two", "to", "twenty", "."]), ("21", ["21"]), ("٢", ["٢"])])
def test_only_the_numbers_the_model_knows_are_spelled_out(text: str, words: list[str]) -> None:
    assert split(text) == words


def test_a_digit_and_its_name_are_the_same_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("2 to 5") == tokenizer.encode("two to five")


def test_an_unknown_word_is_one_unk_and_vanishes_on_the_way_back(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("zebra") == [UNK]
    assert tokenizer.decode([UNK, BOS, EOS]) == ""


def test_a_typed_special_is_not_the_special(tokenizer: Tokenizer) -> None:
    assert not set(tokenizer.encode("<eos> <image>")) & {EOS, IMAGE}


def test_a_prompt_leaves_room_for_the_patches_after_bos(tokenizer: Tokenizer) -> None:
    ids = tokenizer.prompt("two", n_patches=3)
    assert ids == [BOS, IMAGE, IMAGE, IMAGE, USER, *tokenizer.encode("two"), ASSISTANT]


def test_the_file_says_the_same_as_the_tokenizer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    assert Tokenizer.read(tmp_path) == tokenizer


@pytest.mark.parametrize("text", ["not json", '{"specials": [], "words": []}'])
def test_a_file_that_is_no_tokenizer_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        Tokenizer.read(tmp_path)


def test_a_word_may_not_occur_twice() -> None:
    with pytest.raises(ConfigError, match="twice"):
        Tokenizer.from_words(["two", SPECIALS[0]])
