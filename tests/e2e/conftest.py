"""Accounts, their clean clones, and one warm cache per account, so that a whole pipeline runs once for each and not once for each test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import Account, Checkout, Finished, clone, names, python_of, remove


def _parameter(name: str) -> object:
    # All tests of an account share its cache, so they share a worker as well; the two accounts run beside each other.
    return pytest.param(name, marks=[pytest.mark.xdist_group(name), pytest.mark.root if name == "root" else pytest.mark.rootless])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this directory, so that `-m "not e2e"` leaves all of it out."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def homes() -> Iterator[Path]:
    """Give a directory that every account can reach (pytest's own is private)."""
    base = Path(tempfile.mkdtemp(prefix="weighbridge-e2e-", dir="/var/tmp"))
    base.chmod(0o755)
    yield base
    remove(base)


@pytest.fixture(scope="session", params=[_parameter(name) for name in names()])
def account(request: pytest.FixtureRequest, homes: Path) -> Account:
    """Give each person in turn."""
    home = homes / request.param
    home.mkdir()
    person = Account(request.param, home, python="/usr/bin/python3")
    person.own(home)
    return Account(request.param, home, python=python_of(request.param, home, person))


@pytest.fixture(scope="session")
def first(account: Account) -> tuple[Checkout, Finished]:
    """Run the README's command in a clean clone with an empty cache, once per account."""
    checkout = clone(account, "clone")
    return checkout, checkout.ci("run")


@pytest.fixture
def checkout(first: tuple[Checkout, Finished], request: pytest.FixtureRequest) -> Iterator[Checkout]:
    """Give a working tree in which everything has just passed, to change at will."""
    original, finished = first
    assert finished.code == 0, finished.output
    copy = original.copy(request.node.name.translate(str.maketrans("[]/", "---")))
    yield copy
    copy.remove()
