import itertools

import pytest

from ci.exits import BUG, Exit, worst

ORDER = [130, BUG, Exit.USAGE, Exit.FAILED, Exit.BLOCKED, Exit.INFRA, Exit.INCONCLUSIVE, Exit.BUDGET, Exit.PASSED]


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(ORDER, 2)])
def test_of_two_codes_the_earlier_in_the_table_counts(first: int, second: int) -> None:
    assert worst([first, second]) == worst([second, first]) == first


def test_nothing_wrong_is_zero() -> None:
    assert worst([]) == worst([0, Exit.PASSED]) == 0


def test_numbers_are_the_documented_ones() -> None:
    assert {code.name: int(code) for code in Exit} == {
        "PASSED": 0,
        "FAILED": 1,
        "USAGE": 2,
        "BLOCKED": 3,
        "INCONCLUSIVE": 4,
        "INFRA": 5,
        "BUDGET": 6,
    }
