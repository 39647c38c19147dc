"""Streamed scrubbing gives what scrubbing the whole would, and no value survives it."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from pocket.scrub import MASK, Scrubber, scrub

# Few letters, so that values overlap, contain each other and nearly match.
TEXT = st.text("ab \n", max_size=40).map(str.encode)
VALUES = st.lists(st.text("ab \n", max_size=6).map(str.encode), max_size=5)


def stream(pieces: list[bytes], values: list[bytes]) -> bytes:
    scrubber = Scrubber(values)
    return b"".join(scrubber.feed(piece) for piece in pieces) + scrubber.finish()


def reference(data: bytes, values: list[bytes]) -> bytes:
    """Say what scrubbing means, by the regular expression engine's own rule: leftmost, then the first alternative."""
    wanted = sorted(({v.strip() for v in values} | set(values)) - {b""}, key=len, reverse=True)
    return re.sub(b"|".join(map(re.escape, wanted)), MASK, data) if wanted else data


@given(st.lists(TEXT, max_size=8), VALUES)
@example([b"xab", b"ab"], [b"abab", b"b"])
@example([b"a", b"a", b"b"], [b"aab", b"ab"])
@example([b"aba"], [b"ab", b"bab"])
def test_pieces_make_no_difference(pieces: list[bytes], values: list[bytes]) -> None:
    assert stream(pieces, values) == reference(b"".join(pieces), values)


@given(TEXT, VALUES)
def test_no_value_survives(data: bytes, values: list[bytes]) -> None:
    clean = scrub(data, values)
    assert not [v for v in values if v and v in clean]


@given(TEXT, VALUES)
def test_nothing_but_values_is_lost(data: bytes, values: list[bytes]) -> None:
    rest = scrub(data, values).replace(MASK, b"")
    letters = iter(data)
    assert all(letter in letters for letter in rest)  # what remains is a subsequence of what there was


@given(st.lists(TEXT, max_size=8))
def test_without_values_every_piece_passes_at_once(pieces: list[bytes]) -> None:
    scrubber = Scrubber([])
    assert [scrubber.feed(piece) for piece in pieces] == pieces


def test_a_file_secret_is_found_without_its_last_newline() -> None:
    assert scrub(b"key=hunter2;", ["hunter2\n"]) == b"key=***;"


def test_the_longest_value_counts() -> None:
    assert scrub(b"token-long token", ["token", "token-long"]) == b"*** ***"


def test_only_what_may_be_a_value_is_held_back() -> None:
    scrubber = Scrubber(["secret"])
    assert scrubber.feed(b"a line\nsec") == b"a line\n"
    assert scrubber.feed(b"ond\n") == b"second\n"


def test_a_value_of_the_largest_size_is_found_over_many_pieces() -> None:
    value = bytes(range(256)) * 500
    data = value[:-1] + value + b"end"
    pieces = [data[i : i + 4096] for i in range(0, len(data), 4096)]
    assert stream(pieces, [value]) == reference(data, [value])


def test_bytes_that_are_no_text_are_values_too() -> None:
    assert scrub(b"\xff\xfe!", ["\udcff\udcfe"]) == b"***!"
