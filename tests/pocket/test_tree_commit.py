"""What a step wrote becomes a layer that says only what changed: on real overlay mounts, in every tier."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import folder, in_tier, mounted, step, tiers

from pocket.sandbox.linux import identity
from pocket.store import SCRATCH, Entry, Snapshot, Store
from pocket.tree import ops
from pocket.tree.digest import content_key
from pocket.tree.squash import squash
from pocket.tree.view import View

Row = tuple[str, str, int, bool]
Body = Callable[[Store, Snapshot], object]


def base_of(store: Store) -> Snapshot:
    b = store.layer_builder()
    for path in ("etc", "home", "usr", "usr/lib"):
        b.mkdir(path, Entry("d", 0o755, mtime=1_000_000_000))
    b.mkdir("home/app", Entry("d", 0o755, 1000, 50, mtime=1_000_000_000))
    b.write("etc/group", b"root:x:0:\n", Entry("f", 0o644, mtime=1_000_000_000))
    b.write("usr/lib/a", b"a", Entry("f", 0o644, mtime=1_000_000_000))
    b.write("usr/lib/b", b"b", Entry("f", 0o644, mtime=1_000_000_000))
    b.write("home/app/own", b"mine", Entry("f", 0o600, 1000, 50, mtime=1_000_000_000))
    b.symlink("lib", "usr/lib", Entry("l", 0o777, mtime=1_000_000_000))
    return Snapshot((b.finish(),), "base")


def run(tier: str, body: Body) -> Any:
    def inside() -> object:
        store = Store.open(Path(where), tier=tier)
        try:
            return body(store, base_of(store))
        finally:
            store.close()

    with folder(tier) as where:
        return in_tier(tier, inside)


def changed(script: str, drop: tuple[str, ...] = ()) -> Body:
    def body(store: Store, base: Snapshot) -> list[Row] | None:
        layer = step(store, base, script, drop=drop)
        return None if layer is None else [(p, e.kind, e.mode, e.opaque) for p, e in layer.rows()]

    return body


@pytest.mark.parametrize("tier", tiers())
class TestEveryTier:
    def test_a_step_that_writes_nothing_makes_no_layer(self, tier: str) -> None:
        assert run(tier, changed("cat etc/group; ls usr; mkdir t; rmdir t; echo x > f; rm f")) is None

    def test_a_layer_lists_the_change_and_the_directories_above_it(self, tier: str) -> None:
        assert run(tier, changed("rm etc/group; mkdir new; echo 1 > new/f; chmod 700 home/app")) == [
            ("", "d", 0o755, False),
            ("etc", "d", 0o755, False),
            ("etc/group", "w", 0, False),
            ("home", "d", 0o755, False),
            ("home/app", "d", 0o700, False),
            ("new", "d", 0o755, False),
            ("new/f", "f", 0o644, False),
        ]

    def test_removing_a_lower_directory_and_making_it_anew(self, tier: str) -> None:
        """The regression test for `userxattr`: without it this fails with EIO and leaves half of the tree."""
        assert run(tier, changed("rm -rf usr/lib; mkdir usr/lib; echo n > usr/lib/n; ls -A usr/lib | grep -qx n")) == [
            ("", "d", 0o755, False),
            ("usr", "d", 0o755, False),
            ("usr/lib", "d", 0o755, True),
            ("usr/lib/n", "f", 0o644, False),
        ]

    def test_a_file_written_back_as_it_was_is_no_change(self, tier: str) -> None:
        assert run(tier, changed("cp -p usr/lib/a t; rm usr/lib/a; cp -p t usr/lib/a; rm t")) is None

    def test_a_new_time_alone_is_a_change(self, tier: str) -> None:
        rows = run(tier, changed("touch usr/lib/a"))
        assert isinstance(rows, list)
        assert rows[-1] == ("usr/lib/a", "f", 0o644, False)

    def test_mount_stubs_leave_no_trace(self, tier: str) -> None:
        script = "mkdir -p run/secret etc/deep; touch run/secret/s etc/resolv.conf etc/deep/x"
        stubs = ("run", "run/secret", "run/secret/s", "etc/resolv.conf", "etc/deep", "etc/deep/x")
        assert run(tier, changed(script, stubs)) is None

    def test_a_stub_beside_a_change_does_not_show_in_the_directory_time(self, tier: str) -> None:
        def body(store: Store, base: Snapshot) -> int:
            layer = step(store, base, "touch etc/stub; chmod 750 etc", drop=("etc/stub",))
            assert layer is not None
            entry = layer.entry("etc")
            assert entry is not None
            assert (entry.mode, layer.entry("etc/stub")) == (0o750, None)
            return entry.mtime

        assert run(tier, body) == 1_000_000_000

    def test_directory_becomes_file_and_file_becomes_directory(self, tier: str) -> None:
        def body(store: Store, base: Snapshot) -> tuple[list[str], bool]:
            layer = step(store, base, "rm -rf usr; echo f > usr; rm etc/group; mkdir etc/group; touch etc/group/x")
            assert layer is not None
            top = Snapshot((*base.layers, layer), "")
            again = step(store, top, "rm usr; mkdir usr; touch usr/new")
            assert again is not None
            last = Snapshot((*top.layers, again), "")
            merged = squash(store, last.layers[1:])
            same = content_key(View(Snapshot((base.layers[0], merged), ""))) == content_key(View(last))
            return [n.path for n in View(last).walk()], same

        paths, same = run(tier, body)
        assert paths == ["etc", "etc/group", "etc/group/x", "home", "home/app", "home/app/own", "lib", "usr", "usr/new"]
        assert same

    def test_the_view_shows_what_the_mount_shows(self, tier: str) -> None:
        script = "rm -rf usr/lib; mkdir -p usr/lib/x; mv etc/group g; ln -s g l; mkdir -p a/b; touch a/b/c; rm lib; mkfifo pipe; echo >> g"

        def body(store: Store, base: Snapshot) -> tuple[list[str], list[str]]:
            with mounted(store, base) as (root, upper):
                os.system(f"cd {root} && {script}")
                shown = sorted((str(p.relative_to(root)) for p in root.rglob("*")), key=lambda p: p.split("/"))
            layer = store.commit_upper(upper, base)
            assert layer is not None
            return shown, [n.path for n in View(Snapshot((*base.layers, layer), "")).walk()]

        shown, seen = run(tier, body)
        assert shown == seen

    def test_equal_steps_have_equal_digests(self, tier: str) -> None:
        def body(store: Store, base: Snapshot) -> bool:
            one = step(store, base, "mkdir -p x/y; echo 1 > x/y/z; touch -d @5 x/y/z")
            two = step(store, base, "echo 1 > t; mkdir -p x/y q; rmdir q; mv t x/y/z; touch -d @7 x/y/z")
            assert one is not None
            assert two is not None
            return one.digest == two.digest

        assert run(tier, body) is True

    def test_owners_survive_a_change_and_stay_what_the_index_says(self, tier: str) -> None:
        def body(store: Store, base: Snapshot) -> tuple[int, int]:
            layer = step(store, base, "chmod 640 home/app/own")
            assert layer is not None
            entry = layer.entry("home/app/own")
            assert entry is not None
            return entry.uid, entry.gid

        assert run(tier, body) == (1000, 50)

    def test_operations_and_mounts_agree_on_whiteouts(self, tier: str) -> None:
        def body(store: Store, base: Snapshot) -> list[str]:
            layers = ops.remove(store, base, ["usr/lib/*", "etc"])
            with mounted(store, Snapshot((*base.layers, *layers), "")) as (root, _):
                return sorted(str(p.relative_to(root)) for p in root.rglob("*"))

        assert run(tier, body) == ["home", "home/app", "home/app/own", "lib", "usr", "usr/lib"]

    def test_work_directories_of_dead_mounts_can_be_removed(self, tier: str) -> None:
        def body(store: Store, base: Snapshot) -> bool:
            with mounted(store, base) as (root, upper):
                (root / "x").touch()
            assert (upper.parent / "work" / "work").stat().st_mode & 0o777 == 0
            store.close()
            return not store.tmp_dir.exists()

        assert run(tier, body) is True


def test_the_root_of_a_mount_looks_as_its_layers_say() -> None:
    def body(store: Store, base: Snapshot) -> tuple[int, object]:
        b = store.layer_builder()
        b.mkdir("", Entry("d", 0o2710, mtime=5))
        lower = Snapshot((*base.layers, b.finish()), "")
        with mounted(store, lower) as (root, upper):
            mode = root.stat().st_mode & 0o7777
        return mode, store.commit_upper(upper, lower)

    assert run("single-uid", body) == (0o2710, None)


def test_known_owners_are_taken_where_the_disk_cannot_say() -> None:
    def body(store: Store, base: Snapshot) -> dict[str, tuple[int, int]]:
        with mounted(store, base) as (root, upper):
            (root / "n").touch()
            (root / "m").touch()
        noted = identity(str(upper / "n"))
        layer = store.commit_upper(upper, base, notes=[(-1, noted.inode, noted.born, 33, 34, "")])
        assert layer is not None
        return {p: (e.uid, e.gid) for p, e in layer.rows()}

    assert run("single-uid", body) == {"": (0, 0), "m": (0, 0), "n": (33, 34)}


def test_nothing_on_nothing() -> None:
    def body(store: Store, base: Snapshot) -> object:
        empty = step(store, SCRATCH, "true")
        one = step(store, SCRATCH, "touch f")
        return empty, one.files if one else 0

    assert run(tiers()[-1], body) == (None, 1)
