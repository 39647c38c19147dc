"""A secret that the subject's own test prints in pieces: found in no file of the run, in no cache, in no process but the step itself."""

import base64
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from otlp_receiver import OtlpReceiver

CANARY = "canary-7f3a&<9c>-" + "x" * 8
FORMS = (CANARY.encode(), base64.b64encode(CANARY.encode()), b"canary-7f3a&amp;&lt;9c&gt;-xxxxxxxx")
ROOT = Path(__file__).parents[2]
PIPELINE = """\
subject: {{name: small, model: [config.json]}}
base: {{image: host}}
build: {{entrypoint: [python, -m, service]}}
test: {{path: tests}}
evaluate:
  suites:
    - {{name: text, file: text.jsonl, floor: 0.5}}
scan: {{advisories: ""}}
traces: {{deadline: 30}}
secrets:
  TOKEN: {{command: [cat, {secret}], stages: [test]}}
  FROM_ENV: {{env: CANARY_TOKEN, stages: [test]}}
"""
TESTS = """\
import os, sys

def test_in_pieces():
    for name in ("TOKEN", "FROM_ENV"):
        value = os.environ[name]
        for part in (value[:3], value[3:9], value[9:]):
            sys.stdout.write(part); sys.stdout.flush(); os.write(2, part.encode())
    assert len(value) == 25

def test_that_fails():
    assert os.environ["TOKEN"] == "wrong"
"""


def _locked(*names: str) -> str:
    """Return the pins of these packages."""
    text = (ROOT / "constraints" / "dev.txt").read_text()
    return "\n".join(found[0] for name in names if (found := re.search(rf"^{name}==.*?(?<!\\)$", text, re.MULTILINE | re.DOTALL)))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for directory in ("configs", "src", "tests", "evals"):
        (root / directory).mkdir(parents=True)
    (tmp_path / "secret").write_text(CANARY)
    (root / "configs" / "pipeline.yaml").write_text(PIPELINE.format(secret=tmp_path / "secret"))
    (root / "tests" / "test_canary.py").write_text(TESTS)
    (root / "config.json").write_text("{}")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    (root / "model.lock").write_text(f'{{"files": {{"config.json": {{"sha256": "{digest}", "size": 2}}}}}}')
    (root / "evals" / "text.jsonl").write_text('{"id": "a", "prompt": "1", "expected": "1"}\n')
    (root / "training_summary.json").write_text('{"job_id": "train-1"}')
    (root / "requirements.txt").write_text("# nothing\n")
    (root / "requirements-test.txt").write_text(_locked("iniconfig", "packaging", "pluggy", "pygments", "pytest"))
    return root


def _read(process: int, what: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/{what}").read_bytes()
    return b""


def _parent(process: int) -> int:
    _, _, rest = _read(process, "stat").rpartition(b")")
    return int(rest.split()[1]) if rest else 0


def _holders(told: int) -> set[str]:
    """Name the processes whose arguments, or whose environment unless they are the step, hold the value."""
    found = set()
    own = _read(told, "cmdline")
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes()
            arguments = (place / "cmdline").read_bytes()  # after it: a program that is just being started has none
        except OSError:
            continue
        if CANARY.encode() in arguments:
            found.add(f"arguments of {arguments!r}")
        is_step = b"pytest" in arguments and (b"/run/weighbridge/scrub.py" in arguments or b"-m\0pytest" in arguments)
        # The kernel shows what this run itself was started with; see the module's limits.
        is_run = arguments == own and _parent(int(place.name)) == told  # a process that is just being started shares its parent's memory
        if CANARY.encode() in environment and not (is_step or is_run) and int(place.name) not in {told, os.getpid()}:
            found.add(f"environment of {arguments!r}")
    return found


def test_the_canary_is_nowhere(repository: Path, tmp_path: Path) -> None:
    cache, held = tmp_path / "cache", set()
    with OtlpReceiver() as collector:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
            "WEIGHBRIDGE_CACHE": str(cache),
            "CANARY_TOKEN": CANARY,
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        }
        with (tmp_path / "said").open("wb") as said:
            run = subprocess.Popen(
                [sys.executable, "-m", "ci", "run", "--only", "test"], cwd=repository, env=environment, stdout=said, stderr=said
            )
            while run.poll() is None:
                held |= _holders(run.pid)
                with suppress(subprocess.TimeoutExpired):
                    run.wait(0.1)
        spans = b"".join(span.SerializeToString() for span in collector.spans)
    output = (tmp_path / "said").read_bytes()
    assert run.returncode == 1, output.decode()
    assert b"1 failed, 1 passed" in output, output.decode()
    latest = repository / ".weighbridge" / "runs" / "latest"
    assert b"***" in (latest / "junit.xml").read_bytes()
    assert (latest / "report.html").is_file()
    assert spans, "the run told its collector nothing"
    assert held == set()
    places = {"output": output, "spans": spans}
    for path in [*repository.rglob("*"), *cache.rglob("*")]:
        if path.is_file() and not path.is_symlink():
            places[str(path)] = path.read_bytes()
    assert [name for name, data in places.items() if any(form in data for form in FORMS)] == []
