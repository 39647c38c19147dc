"""Caches on disks that are full or may not be written: one sentence that says so and what to do, and a session that goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from busybox_image import make_base
from pocket_session import BASE, PocketSession, chain, session, sh, start

#: A mount namespace of one's own; for an ordinary user with a user namespace around it.
ALONE = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
MB = 1 << 20
ADVICE = ("pocket prune", "WEIGHBRIDGE_CACHE")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("image") / "base.tar")


def mounted(place: Path, script: str) -> tuple[str, ...]:
    """Give the prefix that starts a session where `script` has been run; `$0` is the cache directory."""
    place.mkdir(exist_ok=True)
    return (*ALONE, "sh", "-c", f'set -e; {script}; exec "$@"', str(place))


@pytest.fixture
def small(tmp_path: Path, image: Path) -> Iterator[PocketSession]:
    """Hold a session with 64 MB for its cache."""
    prefix = mounted(tmp_path / "cache", 'mount -t tmpfs -o size=64m tmpfs "$0"')
    with session(tmp_path / "cache", tmp_path / "log", image=image, prefix=prefix) as running:
        yield running


def goes_on(s: PocketSession) -> None:
    """Insist that the session runs commands, writes files and has what it had."""
    said = s.ok(chain(BASE, sh("head -c 1000000 /dev/zero > /f; wc -c < /f"), "stdout"))
    assert said["container"]["from"]["withExec"]["stdout"] == "1000000\n"
    assert s.ok('{directory{withNewFile(path:"a",contents:"b"){file(path:"a"){contents}}}}')


def test_a_command_that_fills_the_cache(small: PocketSession) -> None:
    error = small.error(chain(BASE, sh("head -c 100000000 /dev/zero > /f"), "stdout"))
    assert error["message"].startswith("exit code: 1 — no space left in the cache: ")
    assert all(words in error["message"] for words in ADVICE)
    assert error["extensions"]["stderr"]
    goes_on(small)


def test_a_file_that_does_not_fit(small: PocketSession, tmp_path: Path) -> None:
    text = 'query($c:String!){directory{withNewFile(path:"f",contents:$c){digest}}}'
    error = small.error(text, c="x" * (80 * MB))
    assert "no space left" in error["message"]
    assert all(words in error["message"] for words in ADVICE)
    goes_on(small)


@pytest.mark.parametrize("what", ["directory", "file"])
def test_something_of_the_host_that_does_not_fit(small: PocketSession, tmp_path: Path, what: str) -> None:
    place = tmp_path / "large"
    place.mkdir()
    for n in range(8):
        with (place / f"f{n}").open("wb") as f:
            f.write(os.urandom(10 * MB) if what == "directory" else os.urandom(1))
    with (place / "one").open("wb") as f:
        f.write(os.urandom(80 * MB) if what == "file" else b"")
    asked = f'directory(path:"{place}"){{digest}}' if what == "directory" else f'file(path:"{place}/one"){{digest}}'
    error = small.error("{host{" + asked + "}}")
    assert "no space left" in error["message"]
    assert all(words in error["message"] for words in ADVICE)
    goes_on(small)


def test_output_that_does_not_fit(small: PocketSession) -> None:
    error = small.error(chain(BASE, sh("head -c 80000000 /dev/zero"), "stdout"))
    assert "no space left" in error["message"]
    assert all(words in error["message"] for words in ADVICE)
    goes_on(small)


def test_an_image_that_does_not_fit(small: PocketSession, tmp_path: Path, image: Path) -> None:
    with session(tmp_path / "other", tmp_path / "log2", image=image) as s:
        packed = 'withExec(args:["sh","-c","head -c 80000000 /dev/zero > /f"]){export(path:"%s")}'
        s.ok(chain(BASE, packed % (tmp_path / "large.tar")))
    ident = small.ok(f'{{host{{file(path:"{tmp_path}/large.tar"){{id}}}}}}', "host", "file", "id")
    error = small.error(f'{{container{{import(source:"{ident}"){{id}}}}}}')
    assert "full" in error["message"] or "no space left" in error["message"]
    goes_on(small)


def test_a_cache_that_is_full_already(tmp_path: Path) -> None:
    fill = 'mount -t tmpfs -o size=1m,nr_inodes=8 tmpfs "$0"; for n in 1 2 3 4 5 6; do : > "$0/$n"; done'
    with pytest.raises(AssertionError) as caught:
        start(tmp_path / "cache", tmp_path / "log", prefix=mounted(tmp_path / "cache", fill))
    one_sentence(str(caught.value), "no space left", "pocket prune")


def test_a_cache_that_may_not_be_written(tmp_path: Path) -> None:
    prefix = mounted(tmp_path / "cache", 'mount -t tmpfs -o ro tmpfs "$0"')
    with pytest.raises(AssertionError) as caught:
        start(tmp_path / "cache", tmp_path / "log", prefix=prefix)
    one_sentence(str(caught.value), "read-only file system", "set WEIGHBRIDGE_CACHE to a writable directory")


def test_a_cache_that_became_read_only(tmp_path: Path, image: Path) -> None:
    """All of it was written by an earlier session; a session needs a place for its own files all the same."""
    cache = tmp_path / "cache"
    with session(cache, tmp_path / "log", image=image) as s:
        goes_on(s)
    prefix = mounted(cache, 'mount --bind "$0" "$0"; mount -o remount,ro,bind "$0"')
    with pytest.raises(AssertionError) as caught:
        start(cache, tmp_path / "log2", prefix=prefix)
    one_sentence(str(caught.value), "read-only file system", "set WEIGHBRIDGE_CACHE to a writable directory")


@pytest.mark.parametrize("where", ["file", "file/below", "\0"])
def test_a_cache_where_none_can_be(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / where if where != "\0" else Path("/proc/nowhere")
    with pytest.raises(AssertionError) as caught:
        start(cache, tmp_path / "log")
    one_sentence(str(caught.value), "cannot use the cache directory", "set WEIGHBRIDGE_CACHE to a directory")


def one_sentence(said: str, what: str, advice: str) -> None:
    """There is one line of what and one of advice, and no traceback."""
    assert "Traceback" not in said
    line, hint = said.partition(": ")[2].strip().splitlines()
    assert line.startswith("pocket: ")
    assert what in line
    assert advice in hint
