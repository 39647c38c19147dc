"""Hostile layers by the thousand: whatever an archive holds, nothing outside changes and the index says what is on disk."""

import contextlib
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pocket.errors import PocketError
from pocket.oci import tarwrite as tw
from pocket.oci.pack import pack_layer
from pocket.oci.unpack import Limits, Unpacked, unpack_layer
from pocket.store.index import Entry, Index

OPAQUE = "user.overlay.opaque"
LIMITS = Limits(total=1 << 22, holes=1 << 20, members=500)
PRECIOUS = b"precious"

usual = st.sampled_from(["a", "b", "c", "a", "b", "c", ".", "ü", "\udcff", ".wh.a", ".wh.b", ".wh..wh..opq", "n" * 255])
odd = st.sampled_from(["..", "", ".wh..wh.x", ".wh.", ".wh...", "n" * 256])
component = st.integers(0, 30).flatmap(lambda n: usual if n else odd)
name = st.lists(component, min_size=1, max_size=4).map("/".join)
target = name | st.sampled_from(
    ["/", "..", "../..", "../outside", "../outside/file", "../../outside/file", "/etc", "OUTSIDE", "OUTSIDE/file", "."]
)
kind = st.sampled_from([tw.FILE, tw.FILE, tw.DIRECTORY, tw.DIRECTORY, tw.SYMLINK, tw.SYMLINK, tw.HARDLINK, tw.HARDLINK, tw.CHAR, tw.FIFO])
member = st.tuples(name, kind, target, st.integers(0, 0o7777), st.binary(max_size=700))
layers = st.lists(member, max_size=8)


@contextlib.contextmanager
def arena() -> Iterator[tuple[Path, Path]]:
    """Give a destination and something precious beside it, and check afterwards that the precious is as it was."""
    with tempfile.TemporaryDirectory() as directory:
        outside = Path(directory) / "outside"
        outside.mkdir()
        (outside / "file").write_bytes(PRECIOUS)
        before = (outside.stat().st_mtime_ns, (outside / "file").stat())
        yield Path(directory) / "layer", outside
        after = (outside / "file").stat()
        assert [p.name for p in outside.iterdir()] == ["file"]
        assert (outside / "file").read_bytes() == PRECIOUS
        assert (after.st_ino, after.st_mode, after.st_uid, after.st_nlink, after.st_mtime_ns) == (
            *(before[1].st_ino, before[1].st_mode, before[1].st_uid, 1, before[1].st_mtime_ns),
        )
        assert outside.stat().st_mtime_ns == before[0]
        assert {p.name for p in Path(directory).iterdir()} <= {"outside", "layer", "again"}
        _open_up(Path(directory))


def _open_up(directory: Path) -> None:
    """Let the directory be removed by an ordinary user, whatever modes the layer set."""
    for root, names, _ in os.walk(directory):
        for n in names:
            if not (Path(root) / n).is_symlink():
                (Path(root) / n).chmod(0o700)


def tar(entries: list[tuple[str, bytes, str, int, bytes]], outside: Path) -> bytes:
    out = b""
    for path, sort, to, mode, data in entries:
        content = data if sort == tw.FILE else b""
        link = os.fsencode(to.replace("OUTSIDE", str(outside))) if sort in (tw.SYMLINK, tw.HARDLINK) else b""
        out += tw.header(os.fsencode(path), kind=sort, mode=mode, size=len(content), link=link, mtime=mode, device=(1, 3))
        out += content + tw.padding(len(content))
    return out + tw.END


def on_disk(path: str, entry: Entry, dest: Path) -> None:
    """Check one entry of an index against what is there."""
    place = dest / path
    if entry.kind in "cb":
        assert not os.path.lexists(place)
        return
    s = place.lstat()
    kinds = {"d": stat.S_ISDIR, "f": stat.S_ISREG, "l": stat.S_ISLNK, "p": stat.S_ISFIFO, "w": stat.S_ISCHR}
    assert kinds[entry.kind](s.st_mode)
    if entry.kind in "dfp":
        assert stat.S_IMODE(s.st_mode) == entry.mode
        assert s.st_mtime == entry.mtime
    if entry.kind == "l":
        assert os.readlink(place) == entry.target  # noqa: PTH115 — Path.readlink would tidy the text
    if entry.kind == "w":
        assert s.st_rdev == 0
    if entry.kind == "f":
        assert s.st_size == entry.size


def consistent(got: Unpacked, dest: Path) -> None:
    found = {""}
    for root, directories, files in os.walk(dest):
        for n in (*directories, *files):
            found.add(str((Path(root) / n).relative_to(dest)))
    assert found == {p for p, e in got.index.items() if e.kind not in "cb"}
    for path, entry in got.index.items():
        on_disk(path, entry, dest)
        parent = got.index[path.rpartition("/")[0]]
        assert parent.kind == "d"
        assert not (entry.kind == "w" and parent.opaque)
        if entry.kind == "f" and os.access(dest / path, os.R_OK):
            assert hashlib.sha256((dest / path).read_bytes()).hexdigest() == entry.target


def unpacked(data: bytes, dest: Path) -> Unpacked:
    return unpack_layer(io.BytesIO(data), dest, chown=False, opaque_xattr=OPAQUE, limits=LIMITS)


def survives(entries: list[tuple[str, bytes, str, int, bytes]]) -> None:
    """Add entry after entry, leaving out those that are refused, so that long layers are reached, too."""
    taken: list[tuple[str, bytes, str, int, bytes]] = []
    for i, entry in enumerate(entries):
        with arena() as (dest, outside):
            got: Unpacked | None = None
            with contextlib.suppress(PocketError):
                got = unpacked(tar([*taken, entry], outside), dest)
            if got is None:
                continue
            taken.append(entry)
            if i == len(entries) - 1 and os.geteuid() == 0:
                event(f"{len(taken) / len(entries):.1f} taken")
                consistent(got, dest)
                again_is_the_same(got.index, dest)


def again_is_the_same(index: Index, dest: Path) -> None:
    """Pack what was unpacked and unpack it once more."""
    out = io.BytesIO()
    pack_layer(index, lambda p: dest / p, out, compression="none")
    again = unpacked(out.getvalue(), dest.parent / "again")
    assert again.index == index


@given(layers)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_hostile_layers_change_nothing_outside_and_leave_a_true_index(entries: list[tuple[str, bytes, str, int, bytes]]) -> None:
    survives(entries)


@pytest.mark.nightly
@given(st.lists(member, max_size=20))
@settings(max_examples=5_000, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_more_hostile_layers(entries: list[tuple[str, bytes, str, int, bytes]]) -> None:
    survives(entries)


SOUND = tar(
    [
        ("d/", tw.DIRECTORY, "", 0o755, b""),
        ("d/" + "l" * 120, tw.FILE, "", 0o644, b"x" * 600),
        ("s", tw.SYMLINK, "t" * 200, 0o777, b""),
        ("h", tw.HARDLINK, "d/" + "l" * 120, 0o644, b""),
        ("d/.wh.gone", tw.FILE, "", 0, b""),
        ("ü", tw.FILE, "", 0o644, b"y"),
    ],
    Path("/"),
)
flips = st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6)


def damaged(changes: list[tuple[int, int]], cut: int, *, fix: bool) -> bytes:
    data = bytearray(SOUND[: cut or None])
    for at, value in changes:
        if at < len(data):
            data[at] = value
    for at in range(0, len(data) - 511, 512) if fix else ():
        if data[at + 257 : at + 262] == b"ustar":  # a checksum that fits, so that the damage is met further in
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


def is_refused_or_taken(data: bytes) -> None:
    with arena() as (dest, _), contextlib.suppress(PocketError):
        unpacked(data, dest)


@given(flips, st.sampled_from([0, 0, 0, 100, 512, 700, 1536, 3000]), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_archives_are_refused_or_taken_but_never_crash(changes: list[tuple[int, int]], cut: int, fix: bool) -> None:
    is_refused_or_taken(damaged(changes, cut, fix=fix))


@pytest.mark.nightly
@given(flips, st.integers(0, len(SOUND)), st.booleans())
@settings(max_examples=20_000, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_more_damaged_archives(changes: list[tuple[int, int]], cut: int, fix: bool) -> None:
    is_refused_or_taken(damaged(changes, cut, fix=fix))


SPARSE = ("map", "size", "realsize", "major", "name", "offset", "numbytes")
KEYS = ("path", "linkpath", "size", "uid", "gid", "mtime", "SCHILY.xattr.user.a", "SCHILY.xattr.trusted.x")
VALUES = (b"", b"0", b"1", b"3", b"512", b"-1", b"1.5", b"99999999999", b"0,3", b"0,1,2,1", b"5,1", b"../x", b"a/b", b"\xff", b"x" * 300)
keys = st.sampled_from([*KEYS, *(f"GNU.sparse.{k}" for k in SPARSE)])
values = st.sampled_from(VALUES) | st.binary(max_size=20)


@given(
    st.dictionaries(keys, values, max_size=5),
    st.sampled_from([tw.FILE, tw.SYMLINK, tw.HARDLINK, tw.DIRECTORY, b"S", b"L", b"K", b"x", b"g"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_odd_extension_headers_are_refused_or_taken_but_never_crash(records: dict[str, bytes], sort: bytes) -> None:
    extended = tw._extended({k.encode(): v for k, v in records.items()})
    body = b"1\n0\n3\n".ljust(512, b"\0") + b"abc"
    head = tw.header(b"file", kind=sort, mode=0o644, size=len(body), link=b"t")
    with arena() as (dest, _), contextlib.suppress(PocketError):
        got = unpacked(extended + head + body + tw.padding(len(body)) + tw.END, dest)
        if os.geteuid() == 0:
            consistent(got, dest)
