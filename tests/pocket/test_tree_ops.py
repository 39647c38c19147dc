"""Operations on trees, with the answers that Dagger's engine was observed to give."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocket.errors import TreeError
from pocket.store import SCRATCH, Entry, Snapshot, Store
from pocket.tree import ops, query
from pocket.tree.digest import content_key, dagger_digest, dagger_file_digest
from pocket.tree.owners import resolve_owner
from pocket.tree.patch import apply_patch
from pocket.tree.text import replaced
from pocket.tree.view import View

TIER = "root" if os.geteuid() == 0 else "single-uid"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="makes whiteouts, which an ordinary user may only in a namespace")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with_store = Store.open(tmp_path / "cache", tier=TIER)
    yield with_store
    with_store.close()


def on(base: Snapshot, layers: tuple[object, ...]) -> Snapshot:
    return Snapshot((*base.layers, *layers), "")  # type: ignore[arg-type]


def tree(store: Store, **files: str) -> Snapshot:
    """Write files; two underscores stand for a slash, one for a dot."""
    made = SCRATCH
    for name, text in files.items():
        path = name.replace("__", "/").replace("_", ".")
        made = on(made, ops.write_file(store, made, path, text.encode()))
    return made


def glob(snapshot: Snapshot, pattern: str = "**") -> list[str]:
    return query.glob(View(snapshot), "", pattern)


def read(snapshot: Snapshot, path: str) -> str:
    view = View(snapshot)
    return view.read(view.file(path)).decode()


def entry(snapshot: Snapshot, path: str) -> Entry:
    return View(snapshot).need(path, follow=False).entry


# --- digests, against what Dagger's engine answered
def test_digests_are_dagger_s(store: Store) -> None:
    d = tree(store, foo_txt="Hello, World!")
    d = on(d, ops.write_file(store, d, "sub/bar.sh", b"#!\n", 0o755))
    view = View(d)
    assert dagger_digest(View(SCRATCH)) == "sha256:0e5db88383bce812f795689f5318a2b2f4fde740ef31c2a2365a46368aafddd2"
    assert dagger_digest(view) == "sha256:94c84380242a8d9c1207438e578d1c82241ba34d33a299de20bcebafda1eb091"
    assert dagger_file_digest(view, "foo.txt") == "sha256:8a887cdd3e476c79e1a14a65a6c401673b56071a24561dadb5e152605e72a613"
    assert dagger_digest(view, "sub") == "sha256:c7ab456dd5c610079060c8e3e800b5d60a1c3c9bd8f0dd6b7f77c8193c594850"
    assert dagger_file_digest(view, "foo.txt", exclude_metadata=True).startswith("sha256:042a7d64")
    linked = tree(store, t="x")
    linked = on(linked, ops.symlink(store, linked, "t", "l"))
    assert dagger_digest(View(linked)) == "sha256:6d1104c1e5f8469793ca1a3662707cc9d17d2a44b4925a245f41a1dfee368c05"


def test_the_content_key_does_not_depend_on_the_layers(store: Store) -> None:
    one, two = tree(store, a="1", b__c="2"), tree(store, b__c="0", a="1")
    two = on(two, ops.write_file(store, two, "b/c", b"2"))
    assert content_key(View(one)) == content_key(View(two))
    assert content_key(View(one), "b") == content_key(View(two), "b")
    assert content_key(View(one), "a") == content_key(View(two), "a") != content_key(View(two), "b/c")


# --- making
def test_new_files_and_directories(store: Store) -> None:
    d = tree(store, deep__er="x")
    d = on(d, ops.make_dir(store, d, "plain", 0o644))
    d = on(d, ops.make_dir(store, d, "zero", 0))
    assert [entry(d, p).mode for p in ("deep", "deep/er", "plain", "zero")] == [0o755, 0o644, 0o644, 0o755]
    assert ops.make_dir(store, d, "deep") == ()


def test_what_cannot_be_made(store: Store) -> None:
    d = tree(store, f="", d__x="")
    with pytest.raises(TreeError, match=r"^cannot create directory outside parent: \.\./up$"):
        ops.make_dir(store, d, "../up")
    with pytest.raises(TreeError, match=r"^path f is a file, not a directory$"):
        ops.make_dir(store, d, "f")
    with pytest.raises(TreeError, match=r"^path f is a file, not a directory$"):
        ops.write_file(store, d, "f/g", b"")
    with pytest.raises(TreeError, match=r"^path d is a directory, not a file$"):
        ops.write_file(store, d, "d", b"")
    with pytest.raises(TreeError, match="file exists"):
        ops.symlink(store, d, "x", "f")
    with pytest.raises(TreeError):
        ops.write_file(store, d, "a\0b", b"")


def test_writing_through_symlinks_stays_in_the_tree(store: Store, tmp_path: Path) -> None:
    d = tree(store, usr__bin__x="")
    d = on(d, ops.symlink(store, d, "usr/bin", "bin"))
    d = on(d, ops.symlink(store, d, str(tmp_path), "out"))
    d = on(d, ops.symlink(store, d, "../../../up", "usr/up"))
    d = on(d, ops.write_file(store, d, "/bin/tool", b"t"))
    d = on(d, ops.write_file(store, d, "/out/secret", b"s"))
    d = on(d, ops.write_file(store, d, "/usr/up", b"u"))
    assert {"usr/bin/tool", "up", f"{tmp_path}/secret".lstrip("/")} <= set(glob(d))
    assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize(("target", "link"), [("a\0b", "link"), ("a", "li\0nk"), ("", "link")])
def test_symlinks_that_no_file_system_can_hold_are_refused(store: Store, target: str, link: str) -> None:
    with pytest.raises(TreeError, match=r"NUL|null|empty"):
        ops.symlink(store, SCRATCH, target, link)


def test_symlink_loops_end(store: Store) -> None:
    d = on(SCRATCH, ops.symlink(store, SCRATCH, "b", "a"))
    d = on(d, ops.symlink(store, d, "a", "b"))
    with pytest.raises(TreeError, match="too many levels of symbolic links"):
        View(d).lookup("a/x")
    with pytest.raises(TreeError, match="too many levels of symbolic links"):
        ops.write_file(store, d, "a/x", b"")


# --- copying
def test_copies_merge_and_the_last_one_wins(store: Store) -> None:
    a, b = tree(store, s__1="one", s__2="two"), tree(store, s__2="TWO", s__3="three")
    d = on(a, ops.copy_tree(store, a, b, dest="/"))
    assert query.entries(View(d), "s") == ["1", "2", "3"]
    assert read(d, "s/2") == "TWO"


def test_an_existing_destination_takes_the_sources_attributes(store: Store) -> None:
    base = on(SCRATCH, ops.make_dir(store, SCRATCH, "d", 0o700))
    base = on(base, ops.chown(store, base, "", (7, 7), recursive=False))
    d = on(base, ops.copy_tree(store, base, tree(store, x="1"), dest="d"))
    assert entry(d, "d").mode == 0o755
    assert entry(on(d, ops.copy_tree(store, d, tree(store, y="1"), dest="")), "").uid == 7  # the root of the tree keeps its own
    assert entry(on(base, ops.copy_tree(store, base, tree(store, x="1"), dest="new/er")), "new/er").mode == 0o755


def test_filters_and_subdirectories(store: Store) -> None:
    src = tree(store, keep__a_py="", keep__a_pyc="", drop__b_py="", top_py="", _gitignore="drop\n")

    def into(**options: object) -> list[str]:
        return glob(Snapshot(ops.copy_tree(store, SCRATCH, src, dest="d", **options)))  # type: ignore[arg-type]

    assert into(include=["keep/**"]) == ["d/", "d/keep/", "d/keep/a.py", "d/keep/a.pyc"]
    assert into(exclude=["**/*.pyc", "drop", ".git*"]) == ["d/", "d/keep/", "d/keep/a.py", "d/top.py"]
    assert into(include=["**/*.py"], exclude=["drop"]) == ["d/", "d/keep/", "d/keep/a.py", "d/top.py"]
    assert into(gitignore=True, include=["**/*.py"]) == ["d/", "d/keep/", "d/keep/a.py", "d/top.py"]
    assert glob(Snapshot(ops.subtree(store, src, "keep"))) == ["a.py", "a.pyc"]
    with pytest.raises(TreeError, match="nope: no such file or directory"):
        into(src_path="nope")
    with pytest.raises(TreeError, match=r"path top\.py is a file, not a directory"):
        into(src_path="top.py")


def test_owner_and_modes_of_copies(store: Store) -> None:
    src = tree(store, a__f="x")
    d = Snapshot(ops.copy_tree(store, SCRATCH, src, dest="/o/p", owner=(1000, 50), parents=(7, 8), mode=lambda _, d: 0o711 if d else 0o751))
    assert [(e.uid, e.gid, e.mode) for e in (entry(d, p) for p in ("o", "o/p", "o/p/a", "o/p/a/f"))] == [
        (7, 8, 0o755),
        (1000, 50, 0o711),
        (1000, 50, 0o711),
        (1000, 50, 0o751),
    ]
    layer = d.layers[0]
    assert (layer.path / "o/p/a/f").stat().st_mode & 0o777 == 0o751
    assert not (layer.path / "o/p/a/f").samefile(src.layers[0].path / "a/f")


def test_large_trees_move_layer_by_layer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_SMALL", 1)
    src = tree(store, a="1", b__c="2")
    base = tree(store, etc__x="")
    moved = ops.copy_tree(store, base, src, dest="/srv/app")
    assert len(moved) == len(src.layers)
    assert content_key(View(on(base, moved)), "srv/app") == content_key(View(src))
    more = on(src, ops.write_file(store, src, "b/d", b"3"))
    again = ops.copy_tree(store, base, more, dest="/srv/app")
    assert again[: len(moved)] == moved
    whole = on(base, again)
    assert content_key(View(whole), "srv/app") == content_key(View(more))
    assert ops.copy_tree(store, SCRATCH, src, dest="/") == src.layers
    with pytest.raises(TreeError, match='cannot copy directory to non-directory "/etc/x"'):
        ops.copy_tree(store, base, src, dest="etc/x/y")


def test_a_directory_goes_where_a_link_leads(store: Store) -> None:
    base = tree(store, usr__bin__x="", file="")
    for link, target in (("bin", "usr/bin"), ("nowhere", "none"), ("to", "file")):
        base = on(base, ops.symlink(store, base, target, link))
    d = on(base, ops.copy_tree(store, base, tree(store, bin__sub__tool="", nowhere__a="", to__b=""), dest="/"))
    assert glob(d) == [
        "bin", "file", "nowhere/", "nowhere/a", "to/", "to/b", "usr/", "usr/bin/", "usr/bin/sub/", "usr/bin/sub/tool", "usr/bin/x",
    ]  # fmt: skip


def test_what_is_copied_takes_the_place_of_what_is_there(store: Store) -> None:
    src = tree(store, f="new", d__f="deep")
    base = tree(store, old="old", d__f__x="")
    base = on(base, ops.symlink(store, base, "old", "link"))
    base = on(base, ops.symlink(store, base, "none", "dangling"))
    d = on(base, ops.copy_file(store, base, src, "f", dest="link"))
    d = on(d, ops.copy_file(store, d, src, "f", dest="dangling/f"))
    d = on(d, ops.new_file(store, d, "d", b"in it", 0o644))
    d = on(d, ops.copy_tree(store, d, src, src_path="d", dest="d"))
    assert [read(d, p) for p in ("old", "link", "dangling/f", "d/d", "d/f")] == ["old", "new", "new", "in it", "deep"]


def test_copying_files(store: Store) -> None:
    src = tree(store, d__src_txt="s")
    there = on(SCRATCH, ops.make_dir(store, SCRATCH, "d"))

    def put(base: Snapshot, dest: str, **options: object) -> list[str]:
        return glob(on(base, ops.copy_file(store, base, src, "d/src.txt", dest=dest, **options)))  # type: ignore[arg-type]

    assert put(there, "d") == ["d/", "d/src.txt"]
    assert put(SCRATCH, "new") == ["new"]
    for root in ("", ".", "/"):
        assert put(SCRATCH, root) == ["src.txt"]
    assert put(SCRATCH, "x/") == ["x/", "x/src.txt"]
    d = Snapshot(ops.copy_file(store, SCRATCH, src, "d/src.txt", dest="f", mode=0o600, owner=(7, 8)))
    assert entry(d, "f")[:4] == ("f", 0o600, 7, 8)
    with pytest.raises(TreeError, match="path d is a directory, not a file"):
        ops.copy_file(store, SCRATCH, src, "d", dest="f")


# --- changing
@root_only
def test_removing(store: Store) -> None:
    d = tree(store, a__1="", a__2="", b="")
    assert query.entries(View(on(d, ops.remove(store, d, ["a"]))), "") == ["b"]
    assert glob(on(d, ops.remove(store, d, ["a/1"]))) == ["a/", "a/2", "b"]
    assert glob(on(d, ops.remove(store, d, ["a/*"]))) == ["a/", "b"]
    assert glob(on(d, ops.remove(store, d, ["a", "a/1"]))) == ["b"]
    assert ops.remove(store, d, ["absent", "no/*"]) == ()
    back = on(d, ops.remove(store, d, ["a"]))
    assert glob(on(back, ops.write_file(store, back, "a/3", b""))) == ["a/", "a/3", "b"]
    with pytest.raises(TreeError, match="cannot remove the root"):
        ops.remove(store, d, ["/"])


@root_only
def test_removing_a_link_leaves_what_it_points_to(store: Store) -> None:
    d = tree(store, a__f="")
    d = on(d, ops.symlink(store, d, "a", "l"))
    assert glob(on(d, ops.remove(store, d, ["l"]))) == ["a/", "a/f"]
    assert glob(on(d, ops.remove(store, d, ["l/f"]))) == ["a/", "l"]


def test_owners_and_times(store: Store) -> None:
    d = tree(store, a__f="", b="")
    owned = on(d, ops.chown(store, d, "a", (5, 6)))
    assert [entry(owned, p)[2:4] for p in ("a", "a/f", "b")] == [(5, 6), (5, 6), (0, 0)]
    timed = Snapshot(ops.timestamps(store, d, 1_000_000_000))
    assert [entry(timed, p).mtime for p in ("a", "a/f", "b")] == [1_000_000_000] * 3
    assert int(View(timed).real(View(timed).need("b")).stat().st_mtime) == 1_000_000_000
    assert dagger_digest(View(timed)) == dagger_digest(View(d))


def test_diff_and_changes(store: Store) -> None:
    a, b = tree(store, same="s", mod="1", gone="g", old__x=""), tree(store, same="s", mod="2", new="n", fresh__y="")
    d = Snapshot(ops.diff(store, a, b))
    assert glob(d) == ["fresh/", "fresh/y", "mod", "new"]
    assert read(d, "mod") == "2"
    assert query.changes(View(a), "", View(b), "") == (("fresh/", "fresh/y", "new"), ("mod",), ("gone", "old/"))


# --- looking
def test_entries_globs_and_kinds(store: Store) -> None:
    d = tree(store, a_py="", b_txt="", sub__c_py="", sub__deep__d_py="", _hid__e_py="")
    d = on(d, ops.symlink(store, d, "gone", "dangling"))
    view = View(d)
    assert query.entries(view, "") == [".hid/", "a.py", "b.txt", "dangling", "sub/"]
    assert glob(d, "*.py") == ["a.py"]
    assert glob(d, "**/*.py") == [".hid/e.py", "a.py", "sub/c.py", "sub/deep/d.py"]
    assert glob(d, "sub/*") == ["sub/c.py", "sub/deep/"]
    assert [query.exists(view, p) for p in ("a.py", "no", "dangling", "sub/../a.py")] == [True, False, False, True]
    assert query.exists(view, "dangling", "SYMLINK_TYPE", follow=False)
    assert not query.exists(view, "a.py", "DIRECTORY_TYPE")
    assert query.stat(view, "sub") == query.Stat("sub", 4096, 0o755, "DIRECTORY")
    assert query.find_up(view, "", "a.py", "sub/deep") == "a.py"
    assert query.find_up(view, "", "none", "sub") is None
    with pytest.raises(TreeError, match=r"^nope: no such file or directory$"):
        query.entries(view, "nope")
    with pytest.raises(TreeError, match=r"^path a\.py is a file, not a directory$"):
        view.listdir("a.py")


def test_search(store: Store) -> None:
    d = tree(store, a_txt="one\nneedle here\n", b__c_txt="nothing\nNeedle\n", _h="needle", bin="\0needle")
    view = View(d)

    def found(pattern: str, **options: object) -> list[tuple[str, int]]:
        return [(m.path, m.line_number) for m in query.search(view, "", pattern, **options)]  # type: ignore[arg-type]

    assert found("needle") == [(".h", 1), ("a.txt", 2)]
    assert found("n.edle", insensitive=True, skip_hidden=True, literal=True) == []
    assert found("NEEDLE", insensitive=True, skip_hidden=True) == [("a.txt", 2), ("b/c.txt", 2)]
    assert found("needle", limit=1) == [(".h", 1)]
    assert found("n", globs=["*.txt"], files_only=True) == [("a.txt", 1), ("b/c.txt", 1)]
    assert found("n", paths=["b"]) == [("b/c.txt", 1)]
    assert found("one.needle", multiline=True, dotall=True) == [("a.txt", 1)]
    (match,) = query.search(view, "", "here")
    assert match == ("a.txt", 2, 4, "needle here\n", (("here", 7, 11),))
    with pytest.raises(TreeError, match="invalid search pattern"):
        found("(")


def test_replacing_text() -> None:
    assert replaced("one two one\n", "two", "2", every=False) == "one 2 one\n"
    assert replaced("one two one\n", "one", "1", every=True) == "1 two 1\n"
    assert replaced("a\na\n", "a", "b", every=False, first_from=2) == "a\nb\n"
    with pytest.raises(TreeError, match=r"^search string found multiple times: line 1 \(0-3\), line 1 \(4-7\)$"):
        replaced("one one", "one", "1", every=False)
    with pytest.raises(TreeError, match=r"^search string not found$"):
        replaced("one", "zzz", "1", every=False)
    with pytest.raises(TreeError, match=r"^search string not found$"):
        replaced("a\nb", "a", "1", every=False, first_from=2)
    with pytest.raises(TreeError, match="empty"):
        replaced("a", "", "1", every=False)


PATCH = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n one\n-two\n+TWO\n"
NEW = "diff --git a/n/new b/n/new\nnew file mode 100755\n--- /dev/null\n+++ b/n/new\n@@ -0,0 +1 @@\n+hi\n"


def test_patches(store: Store) -> None:
    d = tree(store, f="one\ntwo\n", g="")
    patched = on(d, apply_patch(store, d, PATCH + NEW))
    assert (read(patched, "f"), read(patched, "n/new"), entry(patched, "n/new").mode) == ("one\nTWO\n", "hi\n", 0o755)
    with pytest.raises(TreeError, match="git apply: exit status 1"):
        apply_patch(store, d, PATCH.replace("two", "three"))
    with pytest.raises(TreeError):
        apply_patch(store, d, NEW.replace("n/new", "../../out"))


def test_owner_names(store: Store) -> None:
    d = tree(store, etc__passwd="root:x:0:0::/:\napp:x:1000:1001::/:\nbroken\n", etc__group="root:x:0:\nstaff:x:50:app\n")
    assert [resolve_owner(d, o) for o in ("app", "app:staff", "7", "7:8", "1000", "root")] == [
        (1000, 1001),
        (1000, 50),
        (7, 7),
        (7, 8),
        (1000, 1001),
        (0, 0),
    ]
    for name, message in {"ghost": "no such user: ghost", "app:ghost": "no such group: ghost", "99999999999": "out of range"}.items():
        with pytest.raises(TreeError, match=message):
            resolve_owner(d, name)
    with pytest.raises(TreeError, match="no such user"):
        resolve_owner(None, "app")


def test_an_empty_source(store: Store) -> None:
    assert glob(on(SCRATCH, ops.copy_tree(store, SCRATCH, SCRATCH, dest="d"))) == ["d/"]
    assert ops.copy_tree(store, SCRATCH, SCRATCH, dest="") == ()
    assert View(SCRATCH).listdir("") == []
    with pytest.raises(TreeError):
        View(SCRATCH).real(View(SCRATCH).root())
