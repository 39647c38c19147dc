"""Words of a Dockerfile: quotes and variables mean what they mean to a shell, and what is not closed is an error."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket.dockerfile.words import expand
from pocket.errors import PocketError

VALUES = {"A": "1", "EMPTY": "", "FILE": "dir/name.tar.gz", "GLOB": "a*b?c"}
VALUE = st.text(alphabet="ab./*", max_size=6)
GLOB = st.text(alphabet="ab./*?", max_size=4)
OPERATORS = st.sampled_from([":-", "-", ":+", "+", "#", "##", "%", "%%"])


def shell(text: str, values: dict[str, str]) -> str:
    """Ask a shell what a word in double quotes means."""
    done = subprocess.run(["/bin/sh", "-c", f'printf %s "{text}"'], env=values, capture_output=True, text=True, check=True)
    return done.stdout


@settings(max_examples=150, deadline=None)
@given(st.none() | VALUE, OPERATORS, GLOB)
def test_modifiers_mean_what_they_mean_to_a_shell(value: str | None, operator: str, word: str) -> None:
    values = {} if value is None else {"V": value}
    text = f"<${{V{operator}{word}}}>"
    assert expand(text, values) == shell(text, values)


@given(st.text(alphabet=st.characters(exclude_characters="$\\\"'", codec="utf-8")))
def test_text_without_signs_stays(text: str) -> None:
    assert expand(text, VALUES) == text
    assert expand(f"'{text}'", VALUES) == text
    assert expand(f'"{text}"', VALUES) == text
    assert expand(f"{text}$A", VALUES) == f"{text}1"


@given(st.text(max_size=20))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        expand(text, VALUES)
        expand(text, VALUES, quotes=False)
    except PocketError as e:
        assert str(e)  # noqa: PT017 - the error is one of the two good ends


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("$A-${A}-$EMPTY-$NONE", "1-1--"),
        ("'$A'", "$A"),
        ("\"$A 'x'\"", "1 'x'"),
        ("\\$A", "$A"),
        ("a\\ b", "a b"),
        ('"\\$A \\" \\x"', '$A " \\x'),
        ("$", "$"),
        ("$$A", "$1"),
        ("$-", "$-"),
        ("${NONE:-${A}}", "1"),
        ("${NONE:-'a b'}", "a b"),
        ("${EMPTY:-x}${EMPTY-y}", "x"),
        ("${A:+set}${NONE:+no}${EMPTY+yes}", "setyes"),
        ("${FILE##*/}", "name.tar.gz"),
        ("${FILE%%.*}", "dir/name"),
        ("${FILE%.*}", "dir/name.tar"),
        ("${FILE/a/A}", "dir/nAme.tar.gz"),
        ("${FILE//a/A}", "dir/nAme.tAr.gz"),
        ("${FILE/.tar/}", "dir/name.gz"),
        ("${A:?must be set}", "1"),
        ("pre${A}post", "pre1post"),
    ],
)
def test_meanings(text: str, meaning: str) -> None:
    assert expand(text, VALUES) == meaning


@pytest.mark.parametrize("text", ["'open", '"open', "${A", "${A:-x", "${", "${-}", "${NONE:?is missing}", "${NONE?}"])
def test_what_is_not_closed_or_not_set_is_refused(text: str) -> None:
    with pytest.raises(PocketError):
        expand(text, VALUES)


def test_a_required_variable_says_its_message() -> None:
    with pytest.raises(PocketError, match="NONE: give it"):
        expand("${NONE:?give it}", VALUES)
    with pytest.raises(PocketError, match="EMPTY: not allowed to be unset"):
        expand("${EMPTY:?}", VALUES)


def test_here_documents_keep_their_quotes() -> None:
    assert expand("'$A' \"$A\" \\$A \\n", VALUES, quotes=False) == "'1' \"1\" $A \\n"
