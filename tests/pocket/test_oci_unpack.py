import io
import os
import resource
import stat
from pathlib import Path

import pytest
from layers import ROOT, SHA, d, f, hard, link, node, unpack

from pocket.oci import tarwrite as tw
from pocket.oci.layertree import Lower
from pocket.oci.unpack import LayerError, Unpacked, unpack_layer
from pocket.store.index import Entry


def kinds(got: Unpacked) -> dict[str, str]:
    return {p: e.kind + ("!" if e.opaque else "") for p, e in got.index.items() if p}


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


def is_whiteout(path: Path) -> bool:
    s = path.lstat()
    return stat.S_ISCHR(s.st_mode) and s.st_rdev == 0


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """Give a destination with something precious beside it; nothing beside it may ever change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("precious")
    return tmp_path / "layer"


def untouched(dest: Path) -> bool:
    outside = dest.parent / "outside"
    return names(outside) == ["file"] and (outside / "file").read_text() == "precious" and names(dest.parent) == ["layer", "outside"]


def test_everything_lands_with_its_attributes(dest: Path) -> None:
    got = unpack(
        dest,
        d("./", mode=0o700, mtime=9),
        d("tmp/", mode=0o1777, mtime=11),
        f("tmp/s", mode=0o6755, uid=12, gid=34, mtime=-7),
        link("l", "/absolute/../x"),
        node(tw.FIFO, "p", mode=0o622, mtime=3),
    )
    assert got.index[""] == Entry("d", 0o700, mtime=9)
    assert got.index["tmp/s"] == Entry("f", 0o6755, 12, 34, 3, -7, SHA)
    assert got.index["l"] == Entry("l", 0o777, target="/absolute/../x")
    s = (dest / "tmp/s").stat()
    assert (stat.S_IMODE(s.st_mode), s.st_mtime) == (0o6755, -7)
    if ROOT:
        assert (s.st_uid, s.st_gid) == (12, 34)
    assert stat.S_IMODE((dest / "tmp").stat().st_mode) == 0o1777
    assert (dest / "tmp").stat().st_mtime == 11
    assert stat.S_IMODE(dest.stat().st_mode) == 0o700
    assert (dest / "l").readlink() == Path("/absolute/../x")
    assert stat.S_ISFIFO((dest / "p").stat().st_mode)
    assert list(got.index) == sorted(got.index)


def test_names_are_cleaned_and_hostile_ones_refused(dest: Path) -> None:
    got = unpack(dest, f("/etc/x"), f("./a//b/./c"), f(b"\xff\xfe"), f(b"\xc3\xbc"))
    assert set(got.index) == {"", "etc", "etc/x", "a", "a/b", "a/b/c", "\udcff\udcfe", "ü"}
    assert (dest / "ü").exists()
    assert (dest / "\udcff\udcfe").exists()


@pytest.mark.parametrize(
    "part",
    [
        f("../outside/file"),
        f("/../outside/file"),
        f("a/../../outside/file"),
        f("a/.."),
        f("x" * 256),
        f("y/" * 2500 + "z"),
        hard("h", "../outside/file"),
        hard("h", "/etc/passwd"),
        hard("h", "missing"),
        d("dd") + hard("h", "dd"),
        d("dd") + f("dd/x") + hard("dd", "dd/x"),
        link("", "/"),
        f("./"),
        link("a", "b") + link("b", "a") + f("a/x"),
        link("x", ""),
        link("x", ".wh.a") + f("x/y"),
        f(".wh."),
        f(".wh..."),
        f(".wh.a/b"),
        node(b"Z", "x"),
        f("u", uid=2**32 - 1),
        f("u", uid=-1),
    ],
)
def test_hostile_entries_are_refused_and_nothing_outside_changes(dest: Path, part: bytes) -> None:
    with pytest.raises(LayerError) as e:
        unpack(dest, part)
    assert e.value.hint
    assert untouched(dest)


@pytest.mark.parametrize("target", ["../outside", "/outside", "..", "../../../../../outside", "a/../../outside"])
def test_links_lead_nowhere_but_into_the_layer(dest: Path, target: str) -> None:
    got = unpack(dest, link("out", target), f("out/file", b"hacked"), hard("h", "out/file"), f("h", b"again"), f("out/file"))
    assert untouched(dest)
    assert got.index["out"].kind == "l"
    assert got.index["h"].size == 5


def test_links_to_real_places_of_the_host_stay_inside(dest: Path) -> None:
    outside = dest.parent / "outside"
    unpack(dest, link("l", str(outside)), f("l/file", b"hacked"), f("l/new"))
    assert untouched(dest)
    assert (dest / str(outside)[1:] / "file").read_bytes() == b"hacked"


def test_an_entry_replaces_a_link_instead_of_writing_through_it(dest: Path) -> None:
    outside = str(dest.parent / "outside" / "file")
    unpack(dest, link("l", outside), f("l", b"new"))
    assert untouched(dest)
    assert (dest / "l").read_bytes() == b"new"


def test_a_hard_link_to_a_link_is_a_link_and_overwriting_one_name_leaves_the_other(dest: Path) -> None:
    outside = str(dest.parent / "outside" / "file")
    got = unpack(
        dest, link("l", outside), hard("h", "l"), f("h", b"new"), f("one"), hard("two", "./one"), f("one", b"changed"), hard("two", "two")
    )
    assert untouched(dest)
    assert (dest / "h").read_bytes() == b"new"
    assert (dest / "two").read_bytes() == b"abc"
    assert got.index["two"].target == SHA
    unpack(dest.parent / "again", f("a/one", mode=0o4711), hard("b/two", "a/one"))
    assert (dest.parent / "again/a/one").samefile(dest.parent / "again/b/two")


def test_usr_merge_entries_below_a_link_go_where_the_link_leads(dest: Path) -> None:
    got = unpack(dest, d("usr/bin"), link("bin", "usr/bin"), f("bin/ls"), link("usr/lib64", "../lib"), f("usr/lib64/x"))
    assert kinds(got) == {"bin": "l", "lib": "d", "lib/x": "f", "usr": "d", "usr/bin": "d", "usr/bin/ls": "f", "usr/lib64": "l"}


def test_whiteouts_become_devices_and_never_delete_what_the_layer_adds(dest: Path) -> None:
    got = unpack(
        dest, f("a/.wh.gone"), f("x"), f(".wh.x"), d("dir"), f("dir/f"), f(".wh.dir"), f(".wh.later"), d("later"), f(".wh.over"), f("over")
    )
    assert kinds(got) == {"a": "d", "a/gone": "w", "x": "f", "dir": "d!", "dir/f": "f", "later": "d!", "over": "f"}
    assert is_whiteout(dest / "a/gone")
    assert os.getxattr(dest / "dir", "user.overlay.opaque") == b"y"
    assert got.index["a/gone"] == Entry("w", 0)


def test_opaque_directories_keep_what_the_layer_adds_and_drop_their_whiteouts(dest: Path) -> None:
    got = unpack(
        dest, f("o/before"), f("o/.wh.x"), f("o/.wh..wh..opq"), f("o/after"), f("o/deep/.wh.y"), f(".wh..wh.plnk/1"), f(".wh..wh.aufs")
    )
    assert kinds(got) == {"o": "d!", "o/before": "f", "o/after": "f", "o/deep": "d"}
    assert names(dest / "o") == ["after", "before", "deep"]
    assert os.getxattr(dest / "o", "user.overlay.opaque") == b"y"


def test_an_entry_below_a_deleted_parent_makes_the_parent_opaque(dest: Path) -> None:
    assert kinds(unpack(dest, f(".wh.p"), f("p/x"))) == {"p": "d!", "p/x": "f"}


def test_the_last_entry_of_a_name_wins_whatever_it_was(dest: Path) -> None:
    got = unpack(
        dest, f("a"), d("a"), f("a/x"), f("b/c/d"), f("b", b"file"), link("c", "x"), d("c"), d("e", mode=0o700), d("e", mode=0o711)
    )
    assert kinds(got) == {"a": "d!", "a/x": "f", "b": "f", "c": "d!", "e": "d"}
    assert (dest / "b").read_bytes() == b"file"
    assert got.index["e"].mode == 0o711


def test_devices_are_metadata_only(dest: Path) -> None:
    got = unpack(
        dest,
        node(tw.CHAR, "null", device=(1, 3)),
        node(tw.BLOCKDEV, "sda", device=(8, 0)),
        node(tw.CHAR, "w", device=(0, 0)),
        hard("n2", "null"),
    )
    assert kinds(got) == {"null": "c", "sda": "b", "w": "w", "n2": "c"}
    assert got.index["null"].target == "1:3"
    assert names(dest) == ["w"]
    assert "device null is kept as metadata" in got.notes[0]


def test_attributes_are_set_and_dangerous_ones_dropped(dest: Path) -> None:
    attributes = (
        ("user.a", b"\0\xff"),
        ("user.overlay.opaque", b"y"),
        ("trusted.overlay.opaque", b"y"),
        ("security.selinux", b"s"),
        ("user.containers.override_stat", b"0"),
    )
    got = unpack(dest, f("x", xattrs=attributes, mode=0o4755), d("dd", xattrs=attributes))
    assert got.index["x"].xattrs == (("user.a", "AP8="),)
    assert os.listxattr(dest / "x") == os.listxattr(dest / "dd") == ["user.a"]
    assert (dest / "x").stat().st_mode & 0o7777 == 0o4755


def test_what_the_file_system_refuses_stays_true_in_the_index(dest: Path) -> None:
    got = unpack(dest, f("x", xattrs=(("user.large", b"v" * 100_000),)), f("y", xattrs=(("user.large", b"v" * 100_000),)))
    assert len(got.index["y"].xattrs[0][1]) > 100_000
    assert len(got.notes) == 1
    assert "x: the attribute user.large is kept as metadata only" in got.notes[0]


@pytest.mark.skipif(ROOT, reason="root may change owners; run this as an ordinary user")
def test_owners_that_cannot_be_given_are_noted_once(tmp_path: Path) -> None:
    data = f("a", uid=5) + node(tw.SYMLINK, "b", uid=6, link=b"a") + d("c", gid=7) + tw.END
    got = unpack_layer(io.BytesIO(data), tmp_path / "layer", chown=True, opaque_xattr="user.overlay.opaque")
    assert [got.index[p].uid for p in "abc"] == [5, 6, 0]
    assert len(got.notes) == 1
    assert "a: the owner 5:0 is kept as metadata only" in got.notes[0]


def lower_of(tmp: Path) -> Lower:
    (tmp / "lower").mkdir(exist_ok=True)
    (tmp / "lower" / "f").write_bytes(b"abc")
    entries = {
        "": Entry("d", 0o711, 1, 2, 0, 3),
        "bin": Entry("l", 0o777, target="usr/bin"),
        "usr": Entry("d", 0o700, 5, 6, 0, 7),
        "usr/bin": Entry("d", 0o750, 8, 9, 0, 10, "", True),
        "etc": Entry("d", 0o755),
        "etc/f": Entry("f", 0o600, 1, 1, 3, 4, SHA),
    }
    return lambda path: (entries[path], tmp / "lower" / "f") if path in entries else None


def test_unlisted_parents_take_the_attributes_and_links_of_the_layers_below(dest: Path, tmp_path: Path) -> None:
    got = unpack(dest, f("bin/new"), f("etc2/x"), lower=lower_of(tmp_path))
    assert got.index["usr/bin"] == Entry("d", 0o750, 8, 9, 0, 10)
    assert got.index["usr"] == Entry("d", 0o700, 5, 6, 0, 7)
    assert got.index[""] == Entry("d", 0o711, 1, 2, 0, 3)
    assert got.index["etc2"] == Entry("d", 0o755)
    assert set(got.index) == {"", "usr", "usr/bin", "usr/bin/new", "etc2", "etc2/x"}


def test_a_hard_link_into_a_lower_layer_is_a_copy(dest: Path, tmp_path: Path) -> None:
    got = unpack(dest, hard("mine", "etc/f"), lower=lower_of(tmp_path))
    assert got.index["mine"] == Entry("f", 0o600, 1, 1, 3, 4, SHA)
    assert (dest / "mine").read_bytes() == b"abc"
    assert (dest / "mine").stat().st_nlink == 1


def test_what_this_layer_hides_is_not_seen_in_lower_layers(dest: Path, tmp_path: Path) -> None:
    for i, hidden in enumerate((f("etc/.wh..wh..opq"), f(".wh.etc") + d("etc"), f(".wh.etc"), f("etc/.wh.f"))):
        with pytest.raises(LayerError, match="no file of the image"):
            unpack(tmp_path / str(i), hidden, hard("mine", "etc/f"), lower=lower_of(tmp_path))


def test_a_used_destination_is_refused(dest: Path) -> None:
    unpack(dest, f("x"))
    with pytest.raises(LayerError, match="not empty"):
        unpack(dest, f("x"))


def test_deep_trees_need_no_long_paths(dest: Path) -> None:
    name = "/".join(["n" * 200] * 20)
    got = unpack(dest, f(name))
    assert got.index[name].kind == "f"
    deep = "/".join("d" * 1500)
    got = unpack(dest.parent / "deep", f(deep), f("d"))
    assert kinds(got) == {"d": "f"}


def test_a_refusal_of_the_file_system_is_told(dest: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(LayerError, match=r"cannot unpack 'big': File too large"):
            unpack(dest, f("big", bytes(5000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
