"""What did not change does not run; what did, runs with everything that depends on it, and nothing else."""

import os
import shutil

import pytest
from accounts import Checkout

ALL = {"validate", "build", "test", "scan", "evaluate", "package", "push"}


@pytest.fixture
def checkout(checkout: Checkout) -> Checkout:
    """Give a working tree that has taken over what other tests made anew in the cache they share: an image names its own commit."""
    assert checkout.ci("run").code == 0
    return checkout


def test_nothing_changed_nothing_runs(checkout: Checkout) -> None:
    finished = checkout.ci("run")
    assert finished.code == 0, finished.output
    assert checkout.outcomes() == dict.fromkeys(ALL, "reused")


def test_touched_files_are_not_changed_files(checkout: Checkout) -> None:
    """Only contents count: a checkout, a copy or a touch gives every file another time."""
    for path in checkout.root.rglob("*"):
        if ".git" not in path.parts and ".weighbridge" not in path.parts and path.is_file():
            os.utime(path)
    finished = checkout.ci("run")
    assert finished.code == 0, finished.output
    assert checkout.ran() == set()


def test_deleted_layout_is_pushed_again_and_nothing_else_runs(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".weighbridge" / "oci")
    finished = checkout.ci("run")
    assert finished.code == 0, finished.output
    assert checkout.ran() == {"push"}
    assert (checkout.root / ".weighbridge" / "oci" / "index.json").exists()


def test_a_doc_changes_nothing(checkout: Checkout) -> None:
    with (checkout.root / "docs" / "why.md").open("a") as doc:
        doc.write("\nOne more line.\n")
    finished = checkout.ci("run")
    assert finished.code == 0, finished.output
    assert checkout.ran() == set()


def test_one_line_of_the_service_runs_what_depends_on_it(checkout: Checkout) -> None:
    server = checkout.subject / "src" / "digits_vlm" / "server.py"
    server.write_text(server.read_text() + "\nAPI_REVISION = 2\n")
    why = checkout.ci("why", "build")
    assert why.code == 0, why.output
    assert "src/digits_vlm/server.py" in why.output
    finished = checkout.ci("run")
    assert finished.code == 0, finished.output
    assert {"build", "test", "scan", "evaluate", "package", "push"} <= checkout.ran()
    assert checkout.outcomes()["validate"] == "reused"


def test_one_byte_of_the_weights_is_evaluated_again(checkout: Checkout) -> None:
    checkout.edit_weights(_one_byte)
    finished = checkout.ci("run")
    assert finished.code == 0, finished.output
    assert "evaluate" in checkout.ran()


def _one_byte(tensors: bytearray) -> None:
    """Flip the lowest bit of one number: no answer changes, the digest does."""
    tensors[0] ^= 1
