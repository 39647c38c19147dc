"""docs/reference.md against the program: a page that forgets an option or an exit code misleads whoever trusts it."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

from ci.config.model import Config
from ci.exits import Exit

REFERENCE = (Path(__file__).resolve().parents[2] / "docs" / "reference.md").read_text()


def _keys(model: type, prefix: str = "") -> Iterator[str]:
    hints = typing.get_type_hints(model)
    for field in dataclasses.fields(model):
        kind = hints[field.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _keys(kind, f"{prefix}{field.name}.")
        elif (members := typing.get_args(kind)) and isinstance(members[-1], type) and dataclasses.is_dataclass(members[-1]):
            yield from _keys(members[-1], f"{prefix}{field.name}.<name>.")
        else:
            yield prefix + field.name


def test_every_configuration_key_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `([a-z_.<>]+)` \|", REFERENCE.split("## Configuration")[1].split("## Environment")[0], re.MULTILINE))
    assert documented == set(_keys(Config))


def test_every_exit_code_is_documented_and_no_other() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", REFERENCE, re.MULTILINE)}
    assert documented == {int(code) for code in Exit}
