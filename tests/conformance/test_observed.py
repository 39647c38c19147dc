"""The cases that Dagger's own engine was observed with, where they lie beside the checkout: what differs is listed with its reason."""

import json
from typing import Any

import pytest
from casebook import matches
from engines import CASES, OBSERVED, Engine

ANSWERS: dict[str, Any] = json.loads((OBSERVED / "observed.json").read_text()) if OBSERVED is not None else {}
ABSENT = "the observed cases are not beside this checkout (WEIGHBRIDGE_SHARED names the directory that has them in conformance/)"
LISTS = {"differs.json": 8, "differs-single-uid.json": 14}


def _reasons(name: str) -> dict[str, str]:
    loaded: dict[str, str] = json.loads((CASES / name).read_text())
    return loaded


@pytest.mark.skipif(OBSERVED is None, reason=ABSENT)
@pytest.mark.parametrize("name", sorted(ANSWERS) or ["none"])
def test_behaves_as_observed(engine: Engine, name: str) -> None:
    """An answer is the observed one, or the difference is a decision; a difference that is gone must leave the list."""
    reasons = {} if engine.tier == "named" else _reasons("differs.json")
    if engine.tier == "single-uid":
        reasons |= _reasons("differs-single-uid.json")
    got = engine.ask(f"observed:{name}")
    if name in reasons:
        assert not matches(ANSWERS[name], got), f"said to differ ({reasons[name]}), but behaves as observed"
    else:
        assert matches(ANSWERS[name], got), f"\nobserved {json.dumps(ANSWERS[name])}\nhere     {json.dumps(got)}"


@pytest.mark.parametrize("name", LISTS)
def test_differences_are_few_and_have_reasons(name: str) -> None:
    """Every difference has a sentence, and there are not many."""
    reasons = _reasons(name)
    assert len(reasons) <= LISTS[name]
    assert all(len(reason.split()) > 4 for reason in reasons.values())
    assert OBSERVED is None or reasons.keys() <= ANSWERS.keys()
