"""Replacing text: the one, the first from a line on, or all; and what is not clear is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket.errors import TreeError
from pocket.tree.text import replaced

WORDS = st.text(alphabet="ab\n", min_size=1, max_size=3)


@given(st.text(alphabet="ab\n"), WORDS, WORDS)
def test_every_occurrence_is_what_python_replaces(text: str, search: str, new: str) -> None:
    assert replaced(text, search, new, every=True) == text.replace(search, new)


@given(st.text(alphabet="ab\n"), WORDS)
def test_one_is_replaced_only_when_it_is_the_only_one(text: str, search: str) -> None:
    if text.count(search) == 1:
        assert replaced(text, search, "N", every=False) == text.replace(search, "N")
    else:
        with pytest.raises(TreeError):
            replaced(text, search, "N", every=False)


@pytest.mark.parametrize(("line", "result"), [(1, "Xa\na\na"), (2, "aa\nX\na"), (3, "aa\na\nX"), (0, "Xa\na\na"), (-5, "Xa\na\na")])
def test_the_first_from_a_line_on(line: int, result: str) -> None:
    assert replaced("aa\na\na", "a", "X", every=False, first_from=line) == result


def test_every_one_from_a_line_on() -> None:
    assert replaced("a\na\na", "a", "X", every=True, first_from=2) == "a\nX\nX"


def test_refusals() -> None:
    with pytest.raises(TreeError, match="must not be empty"):
        replaced("x", "", "y", every=False)
    with pytest.raises(TreeError, match="not found"):
        replaced("a\nb", "a", "X", every=False, first_from=2)
    with pytest.raises(TreeError, match=r"line 1 \(0-2\), line 3 \(1-3\)"):
        replaced("ab\n\ncab", "ab", "x", every=False)
