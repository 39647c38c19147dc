import subprocess
import sys
from pathlib import Path

import pytest
from pipelines import CONFIG

from ci.config.load import ConfigError, load
from ci.config.problems import schema
from ci.errors import UsageError
from ci.exits import Exit


def problems(text: str, place: Path) -> list[str]:
    path = place / "pipeline.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, name="configs/pipeline.yaml")
    assert caught.value.exit == Exit.USAGE
    lines = str(caught.value).splitlines()
    assert lines.pop().endswith("Nothing was run.")
    return lines


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("evaluate:", "evalute:", '3:1: unknown key "evalute" (did you mean "evaluate"?)'),
        ("floor: 0.5", "floor: 93", "5:45: evaluate.suites[0].floor must be between 0 and 1, got 93"),
        ("floor: 0.5", "floor: high", '5:45: evaluate.suites[0].floor must be a number, got "high"'),
        ("floor: 0.5", "flor: 0.5", '5:38: unknown key "flor" (did you mean "floor"?)'),
        ("path: service", "path: ../up", "1:17: subject.path must lie inside the repository, got '../up'"),
        ("[python, -m, service]", "[]", "2:21: build.entrypoint must not be empty"),
        ("[python, -m, service]", "python", '2:21: build.entrypoint must be a list, got "python"'),
        ("build: {entrypoint", "build: {port: 0, entrypoint", "2:15: build.port must be between 1 and 65535, got 0"),
        ("subject:", "base: {fallback: hots}\nsubject:", '1:18: base.fallback must be "host" or "none", got "hots" (did you mean "host"?)'),
        ("subject:", "engine: [pocket]\nsubject:", '1:9: engine must be text (put it in quotes), got ["pocket"]'),
        ("name: small", "name: small, name: other", '1:39: "name" stands here again (first in line 1)'),
        ("floor: 0.5}", "floor: 0.5", "6:1: not valid YAML: expected ',' or '}', but got '<stream end>'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_what_was_meant(old: str, new: str, expected: str, tmp_path: Path) -> None:
    assert f"configs/pipeline.yaml:{expected}" in problems(CONFIG.replace(old, new), tmp_path)


def test_a_misspelt_key_is_one_mistake(tmp_path: Path) -> None:
    assert len(problems(CONFIG.replace("evaluate:", "evalute:"), tmp_path)) == 1


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems("subject: {pth: x}\nbuild: {entrypoint: [x], port: a}\nevaluate: {suites: [{name: A, file: x, floor: 2}]}\n", tmp_path)
    assert [line.split(":")[1] for line in found] == ["1", "2", "3"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert problems("subject: {path: x}\n", tmp_path) == [
        "configs/pipeline.yaml:1:1: build is missing",
        "configs/pipeline.yaml:1:1: evaluate is missing",
    ]


def test_an_empty_file_and_a_list_are_no_configuration(tmp_path: Path) -> None:
    assert problems("", tmp_path)[0] == "configs/pipeline.yaml:1:1: build is missing"
    assert problems("- a\n", tmp_path) == ['configs/pipeline.yaml:1:1: the file must be a mapping, got ["a"]']


def test_an_alias_that_holds_itself_is_refused(tmp_path: Path) -> None:
    assert problems("subject: &a\n  path: *a\n", tmp_path) == ["configs/pipeline.yaml:1:10: this alias refers to what it is part of"]


def test_two_suites_of_one_name_are_refused(tmp_path: Path) -> None:
    found = problems(CONFIG + "    - {name: text, file: other.jsonl, floor: 0.5}\n", tmp_path)
    assert found == ["configs/pipeline.yaml:4:3: evaluate: two suites are named 'text'"]


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_what_was_checked_once_is_read_back_without_pydantic_and_yaml(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(CONFIG)
    first = load(path, cache=tmp_path / "cache")
    program = (
        "import sys; from pathlib import Path; from ci.config.load import load\n"
        f"config = load(Path({str(path)!r}), cache=Path({str(tmp_path / 'cache')!r}))\n"
        "assert not {'pydantic', 'yaml'} & set(sys.modules); print(config)"
    )
    again = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert again.stdout.strip() == str(first)


def test_a_damaged_copy_is_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(CONFIG)
    first = load(path, cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "config").iterdir()
    kept.write_text('{"subject": 3}')
    assert load(path, cache=tmp_path / "cache") == first


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(CONFIG)
    (tmp_path / "cache").write_text("a file, not a directory")
    assert load(path, cache=tmp_path / "cache").subject.name == "small"


def test_this_repositorys_own_configuration_is_valid(repository: Path) -> None:
    assert load(repository / "configs" / "pipeline.yaml").subject.path == "examples/digits_vlm"


def test_the_schema_for_editors_describes_every_key() -> None:
    definitions = schema()["$defs"]
    undescribed = [
        f"{name}.{key}" for name, model in definitions.items() for key, value in model["properties"].items() if "description" not in value
    ]
    assert undescribed == []
    assert definitions["SuiteConfig"]["additionalProperties"] is False
