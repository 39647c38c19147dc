"""The page that says which test shows what: every test it names exists, and the nightly ones are marked so."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.findall(r"(nightly )?`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs/pocket-proofs.md").read_text())


def test_every_test_of_the_page_exists() -> None:
    assert len(NAMED) > 80
    for nightly, file, name in NAMED:
        source = (ROOT / "tests/pocket" / file).read_text()
        found = re.search(rf"((?:^ *@.*\n)*)^ *(?:async )?def {name}\(", source, re.MULTILINE)
        assert found, f"{file} has no {name}"
        assert ("pytest.mark.nightly" in found[1]) == bool(nightly), f"{file}::{name}"
