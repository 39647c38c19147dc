"""The stages on the embedded engine, with a model service of forty lines: what passes, what blocks, and whose fault it is otherwise."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dagger
import pytest
from registries import real_registry

from ci.base import choice
from ci.base.errors import BaseError
from ci.base.hostroot import host_root
from ci.config.model import BaseConfig, BuildConfig, Config, EvaluateConfig, PushConfig, SubjectConfig, SuiteConfig
from ci.facts import Facts
from ci.stage import Context, GateBlocked, InfraError, StageFailed
from ci.stages import STAGES, build, evaluate, kept, package, push, validate

SERVER = """
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply({"data": [{"id": "adder", "uid": os.getuid()}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        if os.environ.get("DIES_AT") == prompt:
            os._exit(9)
        self.reply({"choices": [{"message": {"content": str(eval(prompt))}, "finish_reason": "stop"}]})

    def log_message(self, *args):
        pass

json.load(open("config.json"))
if os.environ.get("STARTS", "yes") != "yes":
    raise SystemExit("this model cannot be loaded")
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""


class Record:
    def __init__(self, place: Path) -> None:
        self.place = place

    def artifact(self, name: str) -> Path:
        return self.place / name


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def launcher(tmp_path: Path, repository: Path) -> Path:
    program = tmp_path / "pocket"
    code = f"import sys; sys.path.insert(0, {str(repository)!r}); from pocket.cli import main; sys.exit(main())"
    program.write_text(f"#!{sys.executable} -P\n{code}\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for directory in ("src/adder", "evals"):
        (root / directory).mkdir(parents=True)
    (root / "src" / "adder" / "__init__.py").touch()
    (root / "src" / "adder" / "server.py").write_text(SERVER)
    (root / "requirements.txt").write_text("# nothing but the standard library\n")
    (root / "requirements-test.txt").write_text("# nothing\n")
    (root / "training_summary.json").write_text('{"job_id": "train-1"}')
    (root / "config.json").write_text("{}")
    (root / "config.json").chmod(0o600)  # a private umask must not make an image that its user cannot read
    entry = {"sha256": hashlib.sha256(b"{}").hexdigest(), "size": 2}
    (root / "model.lock").write_text(json.dumps({"files": {"config.json": entry}}))
    (root / "evals" / "sums.jsonl").write_text("".join(json.dumps(sample(n)) + "\n" for n in range(30)))
    return root


def sample(number: int) -> dict[str, Any]:
    return {"id": f"sum-{number}", "prompt": f"{number}+1", "expected": str(number + 1)}


def config(**env: str) -> Config:
    return Config(
        subject=SubjectConfig(name="adder", model=("config.json",)),
        base=BaseConfig(image="host"),
        build=BuildConfig(entrypoint=("python", "-m", "adder.server"), port=8000, env=env),
        evaluate=EvaluateConfig(suites=(SuiteConfig(name="sums", file="sums.jsonl", floor=0.9),), start_timeout=20.0),
    )


@asynccontextmanager
async def session(monkeypatch: pytest.MonkeyPatch, launcher: Path, root: Path, cache: Path, wanted: Config) -> AsyncIterator[Context]:
    monkeypatch.setenv("_EXPERIMENTAL_DAGGER_CLI_BIN", str(launcher))
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(cache))
    place = root.parent / "record"
    place.mkdir(exist_ok=True)
    with (root.parent / "engine.log").open("w") as log:
        async with dagger.connection(dagger.Config(log_output=log, workdir=str(root))):
            yield Context(
                config=wanted,
                root=root,
                subject=root,
                cache=cache,
                facts=Facts(commit="c" * 40),
                record=Record(place),
                progress=lambda _line: None,
                session=dagger.dag,
                resolved_base=await choice.resolve(wanted.base, root=root, cache=cache),
            )


async def test_from_repository_to_layout(monkeypatch: pytest.MonkeyPatch, launcher: Path, subject: Path, cache: Path) -> None:
    wanted = config()
    async with session(monkeypatch, launcher, subject, cache, wanted) as ctx:
        checked = await validate.run(ctx, {})
        assert checked.counts["samples"] == 30
        built = await build.run(ctx, {"validate": checked})
        again = await build.run(ctx, {"validate": checked})
        assert again.digest == built.digest
        judged = await evaluate.run(ctx, {"build": built})
        assert [(suite.name, suite.score, suite.samples) for suite in judged.suites] == [("sums", 1.0, 30)]
        packed = await package.run(ctx, {"build": built, "evaluate": judged})
        assert packed.files == 4  # configuration, lock, training summary, evaluation report
    ctx = dataclasses.replace(ctx, session=None, resolved_base=None)  # the last stage needs no engine
    pushed = await push.run(ctx, {"build": built, "test": None, "evaluate": judged, "package": packed})

    rows = [json.loads(line) for line in (subject.parent / "record" / "samples.jsonl").read_text().splitlines()]
    assert [row["output"] for row in rows] == [str(n + 1) for n in range(30)]
    assert json.loads((subject.parent / "record" / "gate.json").read_text())["verdict"] == "pass"
    index = json.loads((subject / ".weighbridge" / "oci" / "index.json").read_text())
    assert {entry["digest"] for entry in index["manifests"]} == {built.digest, packed.digest}
    for result in (checked, built, judged, packed, pushed):
        assert type(result).from_json(json.loads(json.dumps(result.to_json()))) == result

    _results_are_gone_only_when_they_are(wanted, subject, cache, built.to_json(), packed.to_json(), pushed.to_json())


def _results_are_gone_only_when_they_are(
    wanted: Config, root: Path, cache: Path, built: dict[str, Any], packed: dict[str, Any], pushed: dict[str, Any]
) -> None:
    for name, result in (("build", built), ("package", packed), ("push", pushed)):
        assert STAGES[name].gone(result, wanted, root, cache) == ""
    kept.archive_path(cache, packed["digest"]).unlink()
    assert "no longer in the cache" in STAGES["package"].gone(packed, wanted, root, cache)
    image = root / ".weighbridge" / "oci" / "blobs" / built["digest"].replace(":", "/")
    layer = json.loads(image.read_bytes())["layers"][0]["digest"].replace(":", "/")
    (root / ".weighbridge" / "oci" / "blobs" / layer).unlink()
    assert "no longer holds" in STAGES["push"].gone(pushed, wanted, root, cache)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with real_registry(tmp_path / "registry") as address:
        yield address


async def test_pushes_to_a_registry_the_bytes_that_were_built(
    monkeypatch: pytest.MonkeyPatch, launcher: Path, subject: Path, cache: Path, registry: str
) -> None:
    wanted = dataclasses.replace(config(), push=PushConfig(target=f"{registry}/team/adder"))
    async with session(monkeypatch, launcher, subject, cache, wanted) as ctx:
        built = await build.run(ctx, {})
        scores = evaluate.Result("", built.digest, "adder", (), "sha256:" + "0" * 64, "CPU", 1.0)
        packed = await package.run(ctx, {"build": built, "evaluate": scores})
        pushed = await push.run(ctx, {"build": built, "test": None, "evaluate": scores, "package": packed})

    from pocket.oci.client import Client

    async with Client() as client:
        assert await client.exists(f"{registry}/team/adder:latest") == built.digest
        assert await client.exists(f"{registry}/team/adder@{packed.digest}") == packed.digest
        await client.delete(f"{registry}/team/adder@{built.digest}")
    from ci.stages.registry import _missing

    said = await _missing(wanted.push, {pushed.image: pushed.image_tag})
    assert said.startswith(f"{registry}/team/adder no longer holds")


async def test_stands_on_a_base_from_a_registry_by_its_digest(
    monkeypatch: pytest.MonkeyPatch, launcher: Path, subject: Path, cache: Path, registry: str
) -> None:
    from pocket.oci import archive
    from pocket.oci.blobs import BlobDir
    from pocket.oci.client import Client

    made = host_root(cache)
    async with Client() as client:
        await client.push(f"{registry}/library/python:3", archive.read(made.archive, BlobDir(subject.parent / "blobs")))
    wanted = dataclasses.replace(config(), base=BaseConfig(image=f"{registry}/library/python:3", fallback="none"))
    async with session(monkeypatch, launcher, subject, cache, wanted) as ctx:
        assert (ctx.base.kind, ctx.base.identity, ctx.base.tried) == ("image", made.digest, ())
        assert ctx.base.reference == f"{registry}/library/python:3@{made.digest}"
        await validate.run(ctx, {})
    with pytest.raises(BaseError, match="the registry does not have it"):
        await choice.resolve(BaseConfig(image=f"{registry}/library/python:4", fallback="none"), root=subject, cache=cache)


async def test_unreachable_registry_is_infrastructure(monkeypatch: pytest.MonkeyPatch, launcher: Path, subject: Path, cache: Path) -> None:
    wanted = dataclasses.replace(config(), push=PushConfig(target="127.0.0.1:1/team/adder"))
    async with session(monkeypatch, launcher, subject, cache, wanted) as ctx:
        built = await build.run(ctx, {})
    with pytest.raises(InfraError, match="cannot push to 127"):
        await push.run(ctx, {"build": built, "package": built})
    assert kept.archive_path(cache, built.digest).is_file()


async def test_wrong_answers_block(monkeypatch: pytest.MonkeyPatch, launcher: Path, subject: Path, cache: Path) -> None:
    lines = [json.dumps({**sample(n), "expected": "0"} if n < 6 else sample(n)) + "\n" for n in range(30)]
    (subject / "evals" / "sums.jsonl").write_text("".join(lines))
    async with session(monkeypatch, launcher, subject, cache, config()) as ctx:
        built = await build.run(ctx, {})
        with pytest.raises(GateBlocked) as caught:
            await evaluate.run(ctx, {"build": built})
    assert str(caught.value) == "sums 0.800 is below its floor 0.9"
    assert "sum-0: expected '0', got '1'" in caught.value.tail


async def test_a_server_that_dies_is_infrastructure(monkeypatch: pytest.MonkeyPatch, launcher: Path, subject: Path, cache: Path) -> None:
    async with session(monkeypatch, launcher, subject, cache, config(DIES_AT="12+1")) as ctx:
        built = await build.run(ctx, {})
        with pytest.raises(InfraError):
            await evaluate.run(ctx, {"build": built})


async def test_a_server_that_cannot_start_is_the_subjects_fault(
    monkeypatch: pytest.MonkeyPatch, launcher: Path, subject: Path, cache: Path
) -> None:
    async with session(monkeypatch, launcher, subject, cache, config(STARTS="no")) as ctx:
        built = await build.run(ctx, {})
        with pytest.raises(StageFailed, match="the service does not start") as caught:
            await evaluate.run(ctx, {"build": built})
    assert "this model cannot be loaded" in caught.value.tail


async def test_problems_of_the_repository_are_named_with_their_places(
    monkeypatch: pytest.MonkeyPatch, launcher: Path, subject: Path, cache: Path
) -> None:
    (subject / "evals" / "sums.jsonl").write_text('{"id": "a"}\n')
    (subject / "config.json").write_text("{ }")
    async with session(monkeypatch, launcher, subject, cache, config()) as ctx:
        with pytest.raises(StageFailed) as caught:
            await validate.run(ctx, {})
    assert [(found.file, found.line) for found in caught.value.findings] == [
        ("config.json", 0),
        ("evals/sums.jsonl", 1),
        ("evals/sums.jsonl", 1),
    ]


async def test_a_lock_that_pip_refuses_is_the_subjects_fault(
    monkeypatch: pytest.MonkeyPatch, launcher: Path, subject: Path, cache: Path
) -> None:
    (subject / "requirements.txt").write_text("numpy==2.0\n")
    async with session(monkeypatch, launcher, subject, cache, config()) as ctx:
        with pytest.raises(StageFailed, match="installing requirements failed") as caught:
            await build.run(ctx, {})
    assert "--hash" in caught.value.tail
