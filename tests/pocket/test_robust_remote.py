"""The remote layer cache, with a real registry: what it saves, what it refuses, and what it costs when the registry is not there."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from busybox_image import make_base
from fresh_machine import ask_elsewhere
from pocket_session import IMAGE, PocketSession, session, sh
from registries import real_registry

from pocket import remote
from pocket.oci.blobs import BlobDir
from pocket.oci.client import Client
from pocket.oci.image import artifact

UUID = "cat /proc/sys/kernel/random/uuid"
#: Commands that leave everything a layer can hold; the last one says who ran it.
CHAIN = (
    "mkdir -p /d/sub /gone && echo one > /d/one && echo two > /gone/two && ln -s one /d/link && chmod 4755 /d/one && mkfifo /d/pipe",
    "rm -r /gone && rm -r /d/sub && mkdir /d/sub && echo new > /d/sub/new && rm /bin/yes && chown 1000:50 /d/sub/new && ln /d/one /d/hard",
    f"head -c 300000 /dev/urandom > /big; {UUID} > /id; cat /id; echo warned >&2",
)
ASKED = f'{{container{{from(address:"{IMAGE}"){{' + "{".join(map(sh, CHAIN)) + "{%s}" + "}" * 5
PATH = ("container", "from", "withExec", "withExec", "withExec")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    place = tmp_path_factory.mktemp("registry")
    with real_registry(place) as host:
        yield host, place


@pytest.fixture
def own_registry(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    with real_registry(tmp_path / "registry") as host:
        yield host, tmp_path / "registry"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base.tar")


class Machine:
    """A machine with an empty cache; each session of it is told where the remote cache is."""

    def __init__(self, place: Path, image: Path, **env: str) -> None:
        place.mkdir()
        self.place, self.image, self.env = place, image, {f"POCKET_CACHE_{k.upper()}": v for k, v in env.items()}

    def do(self, *fields: str) -> dict[str, Any]:
        """Ask in one new session for fields of the container at the end of the chain, one after another."""
        found: dict[str, Any] = {}
        with session(self.place / "cache", self.place / "log", image=self.image, env=self.env) as s:
            for name in fields:
                found |= s.ok(ASKED % name, *PATH)
                found[f"bytes after {name}"] = self.fetched_so_far(s)
        return found

    @staticmethod
    def fetched_so_far(s: PocketSession) -> int:
        """Say how many bytes of layers came into the cache."""
        cache = Path(s.log.parent / "cache")
        return sum(p.stat().st_size for p in cache.glob("v1/blobs/sha256/*/*"))

    @property
    def said(self) -> str:
        return (self.place / "log").read_text()

    def summary(self) -> tuple[int, int, int]:
        """Give hits, bytes fetched and records written as the last session told them."""
        found = re.findall(r"remote cache: (\d+) hits, (\d+) bytes fetched, (\d+) records written", self.said)
        hits, fetched, written = found[-1]
        return int(hits), int(fetched), int(written)

    def warnings(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("pocket: ") and " bytes fetched, " not in line]


def test_a_fresh_machine_runs_nothing_and_fetches_what_is_needed_when_it_is_needed(
    registry: tuple[str, Path], tmp_path: Path, image: Path
) -> None:
    name = f"{registry[0]}/cache/chain"
    first = Machine(tmp_path / "first", image, to=name)
    made = first.do("stdout", "stderr", "exitCode", 'directory(path:"/"){digest}', 'file(path:"/d/sub/new"){contents}')
    hits, fetched, written = first.summary()
    assert (hits, fetched, written) == (0, 0, 3)
    second = Machine(tmp_path / "second", image, **{"from": name})
    shown = second.do("stdout", "stderr", "exitCode")
    hits, fetched, written = second.summary()
    assert (hits, written) == (3, 0)
    assert 0 < fetched < 100_000, "the large layer is fetched though nobody asked for a file"
    got = second.do("stdout", 'directory(path:"/"){digest}', 'file(path:"/d/sub/new"){contents}')
    assert second.summary()[1] > 300_000
    again = second.do('directory(path:"/"){digest}')
    assert second.summary()[1] < 10_000, "only the records of steps whose files nobody asked for"
    assert (shown["stdout"], shown["stderr"], shown["exitCode"]) == (made["stdout"], "warned\n", 0)
    for answer in (got, again):
        assert answer["directory"] == made["directory"]
    assert got["file"] == {"contents": "new\n"}
    assert not second.warnings()


def test_another_machine_runs_nothing_that_the_first_one_ran(registry: tuple[str, Path], tmp_path: Path, image: Path) -> None:
    """A machine in namespaces of its own, whose disk is empty; only the command that is new there is run."""
    host, place = registry
    name = f"{host}/cache/elsewhere"
    made = Machine(tmp_path / "first", image, to=name).do("stdout", 'directory(path:"/"){digest}')
    new = sh("cat /proc/sys/kernel/hostname > /dev/null; cat /id") + "{stdout}"
    asked = [ASKED % field for field in ("stdout", 'directory(path:"/"){digest}', new)]
    answers, said = ask_elsewhere(tmp_path / "other", place, image, {"POCKET_CACHE_FROM": name}, asked)
    shown, tree, after = (_at(answer) for answer in answers)
    assert shown["stdout"] == made["stdout"], "the command that prints something else each time was not run"
    assert tree["directory"] == made["directory"]
    assert after["withExec"]["stdout"] == made["stdout"]
    found = re.search(r"remote cache: (\d+) hits, (\d+) bytes fetched, 0 records written", said)
    assert found, said
    assert int(found[1]) == len(CHAIN)
    assert int(found[2]) > 300_000


def _at(answer: dict[str, Any]) -> dict[str, Any]:
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]
    for step in PATH:
        found = found[step]
    return found


def test_no_secret_is_shared(own_registry: tuple[str, Path], tmp_path: Path, image: Path) -> None:
    """What is uploaded of a command that prints its secret and writes nothing: records and output, in which it is masked."""
    host, place = own_registry
    canary = "canary-shared-7f3a9c51d2e84b06"
    env = {"POCKET_CACHE_TO": f"{host}/cache", "POCKET_CACHE_SIGNING_KEY": f"key-{canary}"}
    with session(tmp_path / "cache", tmp_path / "log", image=image, env=env) as s:
        ident = s.ok('query($v:String!){setSecret(name:"s",plaintext:$v){id}}', "setSecret", "id", v=canary)
        secret = f'withSecretVariable(name:"T",secret:"{ident}"){{withMountedSecret(path:"/s",source:"{ident}"){{%s}}}}'
        s.ok(f'{{container{{from(address:"{IMAGE}"){{' + secret % (sh("echo $T; cat /s; echo $T >&2") + "{stdout}") + "}}}")
    assert "1 records written" in (tmp_path / "log").read_text()
    files = [p.read_bytes() for p in (place / "data").rglob("*") if p.is_file()]
    assert any(b"***" in data for data in files), "its output is there"
    unpacked = [gzip.decompress(data) for data in files if data[:2] == b"\x1f\x8b"]
    assert unpacked
    assert not any(canary.encode() in data for data in [*files, *unpacked])


def test_commands_go_on_from_what_was_fetched(registry: tuple[str, Path], tmp_path: Path, image: Path) -> None:
    name = f"{registry[0]}/cache/goon"
    more = sh("cat /id; ls /gone /d/sub 2>/dev/null; [ -p /d/pipe ] && stat -c '%a %u:%g %h' /d/one /d/hard") + "{stdout}"
    made = Machine(tmp_path / "first", image, to=name).do(more)
    second = Machine(tmp_path / "second", image, **{"from": name})
    second.do("stdout")
    got = Machine(tmp_path / "third", image, **{"from": name, "to": f"{registry[0]}/cache/copy"}).do(
        more, sh("cat /id > /copy; cat /copy") + "{stdout}"
    )
    assert got["withExec"]["stdout"] == made["withExec"]["stdout"].splitlines()[0] + "\n"


def test_records_are_read_by_who_has_the_key_alone(registry: tuple[str, Path], tmp_path: Path, image: Path) -> None:
    name = f"{registry[0]}/cache/signed"
    first = Machine(tmp_path / "first", image, to=name, signing_key="right").do("stdout")
    friend = Machine(tmp_path / "friend", image, **{"from": name}, signing_key="right")
    assert friend.do("stdout")["stdout"] == first["stdout"]
    stranger = Machine(tmp_path / "stranger", image, **{"from": name}, signing_key="wrong")
    assert stranger.do("stdout")["stdout"] != first["stdout"]
    assert stranger.summary()[0] == 0
    assert len(stranger.warnings()) == 3
    assert all("is not signed with this session's key" in w for w in stranger.warnings())


def test_unsigned_records_are_refused_by_who_has_a_key(published: tuple[str, dict[str, Any]], tmp_path: Path, image: Path) -> None:
    name, first = published
    careful = Machine(tmp_path / "careful", image, **{"from": name}, signing_key="mine")
    assert careful.do("stdout")["stdout"] != first["stdout"]
    assert careful.summary()[0] == 0


@pytest.fixture(scope="module")
def published(registry: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Give a repository that a machine without a key wrote, and what that machine saw."""
    name, place = f"{registry[0]}/cache/published", tmp_path_factory.mktemp("published")
    return name, Machine(place / "m", make_base(place / "base.tar"), to=name).do("stdout")


Change = Callable[[dict[str, Any], dict[str, str]], bytes]


def _changed(**changes: Any) -> Change:
    return lambda record, _: json.dumps(record | changes).encode()


def _bad_layer(record: dict[str, Any], _: dict[str, str]) -> bytes:
    for row in record["layers"]["/"]:
        row["layer"] = "0" * 64
    return json.dumps(record).encode()


def _other_layer(record: dict[str, Any], _: dict[str, str]) -> bytes:
    rows = record["layers"]["/"]
    rows[-1] = rows[0]
    rows[-1]["layer"] = "1" * 64
    return json.dumps(record).encode()


def _odd_signature(record: dict[str, Any], notes: dict[str, str]) -> bytes:
    notes["signature"] = "ü" * 64
    return json.dumps(record).encode()


@pytest.mark.parametrize("change", [
    lambda _r, _n: b"[]", lambda _r, _n: b"not json", lambda _r, _n: b"{}", lambda _r, _n: b"\xff", _odd_signature,
    _changed(key="ab" * 32), _changed(layers={"/": [{}]}), _changed(layers={"/": [{"layer": "x", "digest": "../../etc/passwd"}]}),
    _changed(layers=5), _changed(keys={"/": 5, "other": None}),
    _changed(streams={"stdout": {"media": "x", "digest": "sha256:", "size": -1}}),
    _bad_layer, _other_layer,
], ids=lambda c: c.__qualname__.partition(".")[0])  # fmt: skip
def test_a_poisoned_record_is_refused_and_the_command_run_instead(
    registry: tuple[str, Path], published: tuple[str, dict[str, Any]], tmp_path: Path, image: Path, change: Change
) -> None:
    """Whoever can write to the registry and has no key gains nothing but a warning, whatever they write."""
    name = f"{registry[0]}/cache/poisoned{abs(hash(tmp_path))}"
    source, first = published
    asyncio.run(_poison(source, name, change, tmp_path))
    signing = {"signing_key": "k"} if change is _odd_signature else {}
    second = Machine(tmp_path / "second", image, **{"from": name}, **signing)
    got = second.do('directory(path:"/d"){entries}', 'file(path:"/id"){contents}', "stdout")
    assert got["directory"]["entries"] == ["hard", "link", "one", "pipe", "sub/"]
    assert got["stdout"] == got["file"]["contents"] != first["stdout"]
    assert second.warnings()
    assert all("refused" in w for w in second.warnings())


async def _poison(source: str, name: str, change: Change, work: Path) -> None:
    """Copy a repository with all its records changed."""
    async with Client() as client:
        for tag in await client.tags(source):
            blobs = BlobDir(work / tag)
            found = await client.pull(f"{source}:{tag}", blobs)
            notes = dict(found.manifest.annotations)
            data = change(json.loads(found.config_bytes), notes)
            made = artifact(remote.TYPE, found.manifest.layers, blobs, config_type=remote.TYPE, config_bytes=data, annotations=notes)
            await client.push(f"{name}:{tag}", made)


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_layer_that_is_not_what_it_was_is_refused_and_the_command_run_instead(
    own_registry: tuple[str, Path], tmp_path: Path, image: Path, damage: str
) -> None:
    name = f"{own_registry[0]}/cache"
    first = Machine(tmp_path / "first", image, to=name).do("stdout")
    large = [p for p in (own_registry[1] / "data").rglob("data") if 299_000 < p.stat().st_size < 320_000]
    for path in large:
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-9] + b"manipuled")
    second = Machine(tmp_path / "second", image, **{"from": name})
    got = second.do("stdout", 'file(path:"/id"){contents}', 'directory(path:"/d"){entries}')
    assert got["stdout"] == first["stdout"], "as the record says, which nobody has read a file of yet"
    assert got["file"]["contents"] != first["stdout"], "the command was run"
    assert got["directory"]["entries"] == ["hard", "link", "one", "pipe", "sub/"]
    assert len(second.warnings()) == 1
    again = second.do("stdout", 'file(path:"/id"){contents}')
    assert again["stdout"] == again["file"]["contents"] == got["file"]["contents"]


def test_what_follows_is_keyed_by_what_was_really_made(own_registry: tuple[str, Path], tmp_path: Path, image: Path) -> None:
    """A command after one that had to be run again must not be found under the key of what the record promised."""
    name = f"{own_registry[0]}/cache"
    after = sh("cp /id /copy") + '{file(path:"/copy"){contents}}'
    first = Machine(tmp_path / "first", image, to=name)
    first.do("stdout")
    for path in (p for p in (own_registry[1] / "data").rglob("data") if 299_000 < p.stat().st_size < 320_000):
        path.unlink()
    second = Machine(tmp_path / "second", image, **{"from": name})
    got = second.do(after, 'file(path:"/id"){contents}')
    assert got["withExec"]["file"]["contents"] == got["file"]["contents"]
    for path in (second.place / "cache/v1/actions").rglob("*.json"):
        assert "remote" not in json.loads(path.read_text()).get("keys", {}).values()
    again = second.do(after, 'file(path:"/id"){contents}')
    assert {k: v for k, v in again.items() if "bytes" not in k} == {k: v for k, v in got.items() if "bytes" not in k}


@pytest.mark.parametrize("roles", [("from",), ("to",), ("from", "to")])
def test_a_registry_that_is_not_there_costs_one_warning(tmp_path: Path, image: Path, roles: tuple[str, ...]) -> None:
    machine = Machine(tmp_path / "m", image, **dict.fromkeys(roles, "127.0.0.1:1/cache"))
    made = machine.do("stdout", 'file(path:"/id"){contents}')
    assert made["stdout"] == made["file"]["contents"]
    assert len(machine.warnings()) == 1
    assert "127.0.0.1:1" in machine.warnings()[0]
    assert "connection refused" in machine.warnings()[0]


def test_a_name_that_is_none_costs_one_warning(tmp_path: Path, image: Path) -> None:
    machine = Machine(tmp_path / "m", image, **{"from": "Not A Name"})
    assert machine.do("exitCode")["exitCode"] == 0
    assert len(machine.warnings()) == 1
    assert "invalid reference format" in machine.warnings()[0]
