"""A Dockerfile as the recipe: what is adapted to this machine, what stays, and that nothing of the machine is in its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.base.environment import Machine
from ci.config.load import load
from ci.errors import UsageError
from ci.stage import StageFailed
from ci.stages import STAGES
from ci.stages.recipe import Start, adapted, mounts_of, parsed

PYTHON = "docker.io/library/python:3.11"
CONFIG = """\
build: {{{build}}}
evaluate: {{suites: [{{name: text, file: text.jsonl, floor: 0}}]}}
"""


def test_a_base_in_the_context_stands_for_its_reference_in_every_stage() -> None:
    text = "FROM python:3.11 AS one\nRUN true\nFROM docker.io/library/python:3.11\nCOPY --from=one /a /b\n"
    found = adapted(text, {PYTHON: Start("scratch", ("COPY base/ /", 'ENV A="1"'))}, ())
    assert found == (
        'FROM scratch AS one\nCOPY base/ /\nENV A="1"\nRUN true\nFROM scratch\nCOPY base/ /\nENV A="1"\nCOPY --from=one /a /b\n'
    )


def test_other_references_stages_and_variables_stay() -> None:
    text = "ARG BASE=python:3.11\nFROM alpine AS python\nFROM python\nFROM $BASE\n"
    assert adapted(text, {PYTHON: Start("scratch"), "docker.io/library/python:latest": Start("wrong")}, ()) == text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("RUN pip install x", "RUN --mount=m pip install x"),
        ("run  --network=none  pip install x", "run --mount=m --network=none  pip install x"),
        ('RUN ["pip", "install"]', 'RUN --mount=m ["pip", "install"]'),
        ("RUN a && \\\n    b", "RUN --mount=m a && \\\n    b"),
        ("RUN <<EOF\nFROM nothing\nRUN nothing\nEOF", "RUN --mount=m <<EOF\nFROM nothing\nRUN nothing\nEOF"),
        ("RUN \\\n  a", "RUN --mount=m \\\n  a"),
    ],
)
def test_each_run_gets_the_mounts_in_front_of_all_else(line: str, expected: str) -> None:
    found = adapted(f"FROM scratch\n{line}\n", {}, ("m",))
    assert found == f"FROM scratch\n{expected}\n"
    assert [command.cmd.upper() for command in parsed(found)] == ["FROM", "RUN"]
    assert "--mount=m" in parsed(found)[1].flags


def test_the_machine_s_settings_are_secrets_and_none_is_in_the_text() -> None:
    secret = {
        "PIP_INDEX_URL": "https://me:word@index.example/simple",
        "HTTPS_PROXY": "http://proxy.example:1",
        "UV_INDEX": "https://uv.example",
    }
    machine = Machine(secret=secret, plain={"PIP_TIMEOUT": "7"}, ca_bundle="PEM", netrc="login", links=(Path("/wheels"),))
    mounts, secrets = mounts_of(machine)
    text = adapted("FROM scratch\nRUN x\n", {}, mounts)
    assert not any(value in text for value in (*secret.values(), "word", "PEM", "login"))
    assert {part.removeprefix("id=") for mount in mounts for part in mount.split(",") if part.startswith("id=")} == set(secrets)
    assert secrets["weighbridge-pip.conf"].splitlines() == [
        "[global]",
        "cert = /run/weighbridge/ca.pem",
        "find-links = /run/weighbridge/links/0",
        "index-url = https://me:word@index.example/simple",
        "timeout = 7",
        "",
    ]
    assert "7" not in secrets.values()  # it would be taken out of what steps print
    assert secrets["weighbridge-HTTPS_PROXY"] == "http://proxy.example:1"


def test_what_is_no_dockerfile_is_the_subject_s_fault() -> None:
    with pytest.raises(StageFailed, match="cannot be read"):
        parsed("# nothing\n")


def test_a_configuration_names_a_command_or_a_dockerfile(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(CONFIG.format(build="port: 1"))
    with pytest.raises(UsageError, match="entrypoint: is missing"):
        load(path)
    path.write_text(CONFIG.format(build="dockerfile: ../Dockerfile"))
    with pytest.raises(UsageError, match="dockerfile must lie inside"):
        load(path)
    path.write_text(CONFIG.format(build="dockerfile: Dockerfile, context: [service, '.']"))
    spec = STAGES["build"].inputs(load(path))
    assert {"Dockerfile", ".dockerignore", "service", "."} <= set(spec.files)
    assert "base.aliases" in spec.config
