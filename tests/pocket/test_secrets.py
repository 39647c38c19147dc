"""Secrets: values in memory alone, names that tell nothing, providers of the host."""

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sessions import Session, Step

from pocket.errors import PocketError
from pocket.ops.edit import SCRATCH_REF
from pocket.secrets import Secrets, stable_salt
from pocket.values import Container, MountPoint

CANARY = "canary-7f3a9c-value"


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(salt=b"s" * 32, workdir=tmp_path)


def test_a_salt_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    first = stable_salt(tmp_path)
    assert first == stable_salt(tmp_path)
    assert len(first) == 32
    assert stat.S_IMODE((tmp_path / "salt").stat().st_mode) == 0o600
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_name_of_a_hosts_secret_follows_its_value_and_the_cache(secrets: Secrets, tmp_path: Path) -> None:
    place = tmp_path / "s"
    names = []
    for text in ("one", "one", "two"):
        place.write_text(text)
        names.append(secrets.declare(f"file://{place}", None).name)
    other = Secrets(salt=b"t" * 32, workdir=tmp_path).declare(f"file://{place}", None)
    assert names[0] == names[1] != names[2]
    assert other.name != names[2]
    assert "one" not in "".join(names)
    assert secrets.declare(f"file://{place}", "chosen").name == "chosen"


def test_files_are_relative_to_the_working_directory(secrets: Secrets, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"\xff\x00binary")
    assert secrets.value(secrets.declare("file://s", None)) == b"\xff\x00binary"


def test_variables_and_commands(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "from env")
    assert secrets.value(secrets.declare("env://THE_SECRET", None)) == b"from env"
    assert secrets.value(secrets.declare("cmd://printf '%s' a | tr a b", None)) == b"b"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("plain", 'parse "plain": malformed id'),
        ("://x", "malformed id"),
        ("env://NO_SUCH_VARIABLE", 'secret env var not found: "NO_...'),
        ("file:///no/such/file", 'failed to read secret file "/no/such/file": open /no/such/file: no such file'),
        ("cmd://echo why >&2; exit 4", "exit status 4"),
        ("vault://x", "not supported by pocket"),
        ("nope://x", 'unsupported secret provider: "nope"'),
    ],
)
def test_what_cannot_be_had_is_said(secrets: Secrets, uri: str, message: str) -> None:
    with pytest.raises(PocketError) as caught:
        secrets.value(secrets.declare(uri, None))
    assert message in str(caught.value)


def test_a_container_shows_the_values_it_can_see(secrets: Secrets) -> None:
    a, b, blank = secrets.keep("a", b"AA"), secrets.keep("b", b"BB"), secrets.keep("c", b" \n")
    secrets.keep("unused", b"CC")
    c = Container(rootfs=SCRATCH_REF, secret_env=(("A", a), ("C", blank)), mounts=(MountPoint(target="/b", kind="secret", secret=b),))
    assert secrets.values_in(c) == [b"AA", b"BB"]


def files_with(root: Path, text: bytes) -> list[Path]:
    """Find the files of a cache that hold a text."""
    return [p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and text in p.read_bytes()]


def command_lines() -> Iterator[str]:
    """Give the arguments of every process."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended
            yield place.read_bytes().decode(errors="replace")


def test_a_value_is_nowhere_in_the_cache_and_in_no_arguments(tmp_path: Path, base_archive: Path) -> None:
    """A command sees the secret in both ways; afterwards no file, name or process tells it."""
    cache = tmp_path / "cache"
    with Session(cache, env={"THE_SECRET": CANARY}) as session:
        c = session.base(base_archive)
        given = session.value(("setSecret", {"name": "given", "plaintext": CANARY}), "id")
        taken = session.value(("secret", {"uri": "env://THE_SECRET"}), "id")
        script = "cat /s > /dev/null; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; echo ${#T}; echo $T"
        steps: tuple[Step, ...] = (
            *c,
            ("withSecretVariable", {"name": "T", "secret": given}),
            ("withMountedSecret", {"path": "/s", "source": taken}),
            ("withExec", {"args": ["sh", "-c", script]}),
        )
        out = session.value(*steps, "stdout")
        tarball = session.value(*steps, "asTarball", "size")
        assert CANARY not in out
        assert out.splitlines()[1:] == [str(len(CANARY)), "***"]
        assert tarball > 0
        seen = [p for p in cache.rglob("*") if CANARY in p.name]
        assert not seen
        assert not any(CANARY in said for said in command_lines())
    assert files_with(cache, CANARY.encode()) == []
