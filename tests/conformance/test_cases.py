"""The project's own cases, each against the answer that is written beside it."""

import json

import casebook
import pytest
from casebook import matches
from engines import CASES, Engine

casebook.load(CASES)


@pytest.mark.parametrize("name", sorted(casebook.CASES))
def test_case(engine: Engine, name: str) -> None:
    """An engine gives the answer of the book."""
    want, got = casebook.CASES[name].answer(engine.tier), engine.ask(f"own:{name}")
    assert matches(want, got), f"\nexpected {json.dumps(want)}\nhere     {json.dumps(got)}"


def test_the_book_is_long_enough() -> None:
    """There are enough cases to mean something, and every one has an answer."""
    assert len(casebook.CASES) >= 120
