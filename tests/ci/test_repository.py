"""What holds for the repository as a whole, whichever package a file belongs to."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CATEGORIES = {"security", "removed", "deprecated", "added", "changed", "fixed"}
# Put together here, so that this file does not name them either.
INDEX_HOSTS = [
    ".".join(parts)
    for parts in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs", "org"), ("deb", "debian", "org"), ("crates", "io"))
]
YAMLS = {".github/workflows/ci.yml": "vendor.github-workflows", ".gitlab-ci.yml": "vendor.gitlab-ci"}


def _files() -> list[str]:
    """Name every file of the commit, and those about to be part of one."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    return sorted(set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()))


def _texts() -> Iterator[tuple[str, str]]:
    for name in _files():
        try:
            yield name, (ROOT / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue


def _machine_paths() -> set[str]:
    """Name the directories that are this machine's own business: where the repository, the interpreter and local wheels lie."""
    paths = {str(ROOT), sys.prefix, sys.base_prefix, *os.environ.get("PIP_FIND_LINKS", "").split()}
    return {path.rstrip("/") for path in paths if path.startswith("/") and path.rstrip("/") not in {"", "/usr", "/usr/local"}}


def test_no_file_names_a_package_index() -> None:
    """The machine chooses its index; a committed host would override it, or leak where somebody works."""
    hosts = re.compile("|".join(rf"(?<![\w.-])(?:[\w-]+\.)*{re.escape(host)}\b" for host in INDEX_HOSTS))
    assert [f"{name}: {match.group()}" for name, text in _texts() for match in hosts.finditer(text)] == []


def test_no_file_names_a_path_of_this_machine() -> None:
    paths = re.compile("|".join(rf"{re.escape(path)}(?![\w.-])" for path in _machine_paths()))
    # Resources are other people's repositories, whose containers have paths of their own.
    ours = ((name, text) for name, text in _texts() if not name.startswith("tests/resources/"))
    assert [f"{name}: {match.group()}" for name, text in ours for match in paths.finditer(text)] == []


def test_modules_stay_small() -> None:
    """At 400 lines a module holds more than one noun."""
    sizes = {name: text.count("\n") for name, text in _texts() if name.endswith(".py")}
    assert {name: size for name, size in sizes.items() if size > 400} == {}


def test_nothing_is_left_open_in_the_code() -> None:
    left_open = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error", "pragma: " + "no cover", r"type: " + r"ignore(?!\[)")
    words = re.compile("|".join(left_open))
    code = ((name, text) for name, text in _texts() if name.startswith(("ci/", "pocket/")) and name.endswith(".py"))
    assert [f"{name}: {match.group()}" for name, text in code for match in words.finditer(text)] == []


def test_changelog_fragments_name_a_category() -> None:
    fragments = sorted(path.name for path in (ROOT / "changes").iterdir())
    assert fragments
    assert [name for name in fragments if not re.fullmatch(rf"\d+-[a-z0-9-]+\.({'|'.join(CATEGORIES)})\.md", name)] == []


@pytest.mark.parametrize("name", sorted(YAMLS))
def test_ci_files_follow_the_hosts_schema(name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", YAMLS[name], str(ROOT / name)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", sorted(YAMLS))
def test_ci_files_hold_one_command_and_no_rule(name: str) -> None:
    """What runs when is decided in Python: a rule in YAML is a rule written twice. Uploading whatever there is, is no decision."""
    text = (ROOT / name).read_text()
    assert re.findall(r"^.*\bpython3? -m ci\b.*$", text, flags=re.MULTILINE) in ([], [_command_line(text)])
    assert _command_line(text).endswith("python -m ci run")
    rules = re.compile(r"^\s*(?:- )?(?:if|rules|only|except|branches|paths-ignore|tags-ignore)\s*:(?!\s*always\(\)$)", re.MULTILINE)
    assert rules.findall(text) == []


def _command_line(text: str) -> str:
    (line,) = (line for line in text.splitlines() if "-m ci" in line)
    return line


def test_ci_files_ask_for_a_gpu_runner_through_one_variable() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["pipeline"]["runs-on"] == '${{ fromJSON(vars.WEIGHBRIDGE_RUNNER || \'["self-hosted", "gpu"]\') }}'
    gitlab = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
    assert gitlab["variables"]["WEIGHBRIDGE_RUNNER"] == "gpu"
    assert gitlab["weighbridge"]["tags"] == ["$WEIGHBRIDGE_RUNNER"]


def test_pins_hold_every_direct_dependency_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for name, wanted in {
        "run": project["dependencies"],
        "dev": [*project["dependencies"], *extras["compression"], *extras["test"], *extras["dev"]],
        "train": [*project["dependencies"], *extras["train"]],
    }.items():
        text = (ROOT / f"constraints/{name}.txt").read_text()
        pins = {match.group(1) for match in re.finditer(r"^([A-Za-z0-9._-]+)==\S+.*\\\n    --hash=sha256:", text, flags=re.MULTILINE)}
        assert {_normal(requirement) for requirement in wanted} <= pins, name


def _normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~ ;\[]", requirement)[0]).lower()


def test_readme_has_two_commands_and_its_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^```sh\n(.*?)\n```$", readme, flags=re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    assert "\n" not in "".join(commands)
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in target]
    assert [target for target in targets if not (ROOT / target).exists()] == []
