"""The remote store with a real registry: machines that vanish, two at once, one that does not answer, one that may not write."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from images import make_image
from pipelines import Done, Pipeline, Seen, statuses
from registries import real_registry

from ci.config.store import StoreConfig
from ci.errors import UsageError
from ci.remote import Remote, opened
from ci.remote_artefacts import MEMO, RUN, memo_tag
from ci.stage import Context
from ci.stages import kept
from pocket.oci import archive
from pocket.oci.client import Client
from pocket.oci.manifest import Manifest
from pocket.oci.reference import parse

Machine = Callable[[str], Pipeline]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def place(registry: str, request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower()).strip("-")
    return f"oci://{registry}/{name}"


def store(place: str, pipeline: Pipeline, *, may_write: bool = True, timeout: float = 20) -> Remote:
    found = opened(StoreConfig(remote=place, timeout=timeout), {}, cache=pipeline.cache, may_write=may_write)
    assert found is not None
    return found


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def machine(tmp_path: Path, calls: list[str]) -> Machine:
    """Give machines that have the same repository and nothing else in common."""

    def made(name: str) -> Pipeline:
        pipeline = Pipeline.at(tmp_path / name)

        async def build(ctx: Context, _needs: Mapping[str, Any]) -> Done:
            calls.append(f"{name} build")
            image = make_image(ctx.cache / "blobs", b"content")
            with kept.incoming(ctx.cache) as part:
                archive.export(part, [image])
                kept.keep(ctx.cache, part, image.digest)
            return Done("built", image.digest)

        async def test(ctx: Context, needs: Mapping[str, Any]) -> Done:
            calls.append(f"{name} test")
            assert kept.archive_path(ctx.cache, needs["build"].digest).is_file()
            ctx.record.artifact("junit.xml").write_text("<testsuite/>")
            return Done("tested")

        pipeline.add("build", build, base=True, gone=kept.image_gone, archives=lambda result: (result["digest"],))
        pipeline.add("test", test, needs=("build",), files=("service",))
        return pipeline

    return made


def manifests(place: str) -> dict[str, Manifest]:
    """Give what is in the store: tag → manifest."""

    async def read() -> dict[str, Manifest]:
        reference = parse(place.removeprefix("oci://"), default_tag=None)
        async with Client() as client:
            found = {tag: (await client.resolve(reference.with_tag(tag))).document for tag in await client.tags(reference)}
        return {tag: document for tag, document in found.items() if isinstance(document, Manifest)}

    return asyncio.run(read())


def test_an_empty_machine_reuses_every_stage(place: str, machine: Machine, calls: list[str]) -> None:
    one, two = machine("one"), machine("two")
    assert one.run(store=store(place, one)).exit == 0
    seen = Seen()
    record = two.run(seen, store=store(place, two))
    assert statuses(record) == {"build": "reused", "test": "reused"}
    assert calls == ["one build", "one test"]
    assert seen.events == [("finished", "passed")]  # no event loop, no engine
    assert (record.directory / "junit.xml").read_text() == "<testsuite/>"
    assert list((two.cache / "artifacts").glob("*") if (two.cache / "artifacts").exists() else []) == []  # nobody needed the image


def test_an_image_comes_over_when_a_stage_needs_it(place: str, machine: Machine, calls: list[str]) -> None:
    one, two = machine("one"), machine("two")
    made = one.run(store=store(place, one)).stages["build"].result or {}
    (two.root / "service" / "main.py").write_text("print('other')\n")
    record = two.run(store=store(place, two))
    assert statuses(record) == {"build": "reused", "test": "passed"}
    assert calls == ["one build", "one test", "two test"]
    assert kept.archive_path(two.cache, made["digest"]).is_file()


def test_artefacts_have_types_and_say_what_they_are(place: str, machine: Machine) -> None:
    one = machine("one")
    record = one.run(store=store(place, one))
    found = manifests(place)
    entry = record.stages["test"]
    memo = found[memo_tag("test", entry.key)]
    assert (memo.artifact_type, memo.config.media_type) == (MEMO, MEMO)
    assert [(layer.media_type, layer.annotations["org.opencontainers.image.title"]) for layer in memo.layers] == [
        ("application/xml", "junit.xml")
    ]
    (run,) = (manifest for tag, manifest in found.items() if tag.startswith(f"run-{record.id}"))
    assert run.artifact_type == RUN
    assert json.loads(run.annotations["weighbridge.durations"]).keys() == {"build", "test"}
    assert f"image-{(record.stages['build'].result or {})['digest'].removeprefix('sha256:')}" in found


PROGRAM = """
import sys
from pathlib import Path
from ci.config.store import StoreConfig
from ci.remote import opened
from images import make_image
from pipelines import Done, Pipeline
from pocket.oci import archive
from ci.stages import kept

pipeline = Pipeline(Path(sys.argv[1]), Path(sys.argv[2]))

async def build(ctx, needs):
    image = make_image(ctx.cache / "blobs", (ctx.subject / "main.py").read_bytes())
    with kept.incoming(ctx.cache) as part:
        archive.export(part, [image])
        kept.keep(ctx.cache, part, image.digest)
    return Done("built", image.digest)

pipeline.add("build", build, files=("service",), gone=kept.image_gone, archives=kept.archives)
store = opened(StoreConfig(remote=sys.argv[3]), {}, cache=pipeline.cache, may_write=True)
request = pipeline.request(store=store)
print("ready", flush=True)
sys.stdin.readline()
record = pipeline.run(store=store)
print(record.stages["build"].key, *record.notes)
sys.exit(record.exit)
"""


def test_two_machines_at_once_lose_nothing(place: str, tmp_path: Path) -> None:
    """Both begin in the same second, with the same commit; they have different files."""
    pipelines = [Pipeline.at(tmp_path / str(number)) for number in range(2)]
    (pipelines[1].root / "service" / "main.py").write_text("print('other')\n")
    repository = Path(__file__).resolve().parents[2]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(pipeline.root), str(pipeline.cache), place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{repository}:{repository / 'tests' / 'support'}"},
        )
        for pipeline in pipelines
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert {memo_tag("build", key) for key in said} <= manifests(place).keys()  # a note would be part of the key
    assert said[0] != said[1]
    assert sum(tag.startswith("run-") for tag in manifests(place)) == 2


def test_a_run_that_may_not_write_reads(place: str, machine: Machine, calls: list[str]) -> None:
    one, fork, third = machine("one"), machine("fork"), machine("third")
    one.run(store=store(place, one))
    (fork.root / "service" / "main.py").write_text("print('of a fork')\n")
    before = manifests(place).keys()
    assert statuses(fork.run(store=store(place, fork, may_write=False))) == {"build": "reused", "test": "passed"}
    assert manifests(place).keys() == before
    third.run(store=store(place, third))
    assert calls == ["one build", "one test", "fork test"]


def test_a_registry_that_is_not_there_costs_one_line(machine: Machine) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    one = machine("one")
    record = one.run(store=store(f"oci://127.0.0.1:{port}/store", one))
    assert (record.exit, len(record.notes)) == (0, 1)
    assert record.notes[0].startswith(f"warning: the store oci://127.0.0.1:{port}/store is not used: cannot ")
    assert json.loads((record.directory / "run.json").read_bytes())["notes"] == record.notes


def test_a_registry_that_accepts_and_says_nothing_is_given_up_in_time(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = machine("one")
        remote = store(f"oci://127.0.0.1:{silent.getsockname()[1]}/store", one, timeout=0.2)
        record = one.run(store=remote)
    assert record.exit == 0
    assert len(record.notes) == 1


def test_what_is_forged_or_of_another_version_is_not_taken(place: str, machine: Machine, calls: list[str]) -> None:
    """Somebody gave one result the tag of another."""
    one, two = machine("one"), machine("two")
    first = one.run(store=store(place, one))
    (two.root / "service" / "main.py").write_text("print('other')\n")
    wanted = machine("three")
    (wanted.root / "service" / "main.py").write_text("print('other')\n")
    key = wanted.run().stages["test"].key  # what the second machine will look for
    calls.clear()

    async def forge() -> None:
        reference = parse(place.removeprefix("oci://"), default_tag=None)
        async with Client() as client:
            real = await client.resolve(reference.with_tag(memo_tag("test", first.stages["test"].key)))
            await client.tag(real, memo_tag("test", key))

    asyncio.run(forge())
    record = two.run(store=store(place, two))
    assert record.exit == 0
    assert "two test" in calls
    assert "it is the result of another key" in record.notes[0]


def test_durations_and_records_come_back(place: str, machine: Machine, tmp_path: Path) -> None:
    one = machine("one")
    record = one.run(store=store(place, one))
    two = machine("two")
    remote = store(place, two)
    with contextlib.closing(remote):
        assert remote.durations().keys() == {"build", "test"}
        assert remote.fetch_run("", tmp_path / "runs") == record.id
        assert remote.fetch_run(record.id, tmp_path / "runs") == record.id
        assert remote.fetch_run("20200101-000000-0000000", tmp_path / "runs") == ""
    brought, made = tmp_path / "runs" / record.id, record.directory
    names = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    assert {path.relative_to(brought) for path in brought.rglob("*") if path.is_file()} == names


def test_nothing_is_asked_when_the_memo_knows(machine: Machine) -> None:
    one = machine("one")
    one.run()
    remote = store("oci://nowhere.invalid/store", one)
    assert statuses(one.run(store=remote)) == {"build": "reused", "test": "reused"}
    assert not remote.used


def test_the_environment_stands_above_the_configuration(tmp_path: Path) -> None:
    config = StoreConfig(remote="oci://a.example/b")
    options: dict[str, Any] = {"cache": tmp_path, "may_write": True}
    chosen = opened(config, {"WEIGHBRIDGE_STORE": "oci://c.example/d"}, **options)
    assert chosen is not None
    assert chosen.name == "oci://c.example/d"
    assert opened(replace(config, remote=""), {}, **options) is None
    with pytest.raises(UsageError, match="WEIGHBRIDGE_STORE: a store is oci://"):
        opened(config, {"WEIGHBRIDGE_STORE": "https://c.example/d"}, **options)
