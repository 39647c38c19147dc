"""Change sets: what differs, as paths, as a patch that git takes, and put onto other directories."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from inprocess import Api
from sessions import Enum, Failed, Step

BEFORE = {"same": "s\n", "mod": "one\ntwo\n", "gone": "bye\n", "d/inner": "i\n"}
AFTER = {"same": "s\n", "mod": "one\n2\nthree\n", "new/file with space": "n\n"}


async def tree(api: Api, files: dict[str, str]) -> str:
    """Make a directory; give its ID."""
    ident: str = await api("directory", *(("withNewFile", {"path": p, "contents": t}) for p, t in files.items()), "id")
    return ident


@pytest.fixture
async def change(api: Api) -> tuple[Step, ...]:
    return (("loadDirectoryFromID", {"id": await tree(api, AFTER)}), ("changes", {"from": await tree(api, BEFORE)}))


async def test_paths(api: Api, change: tuple[Step, ...]) -> None:
    assert await api(*change, "addedPaths") == ["new/", "new/file with space"]
    assert await api(*change, "modifiedPaths") == ["mod"]
    assert await api(*change, "removedPaths") == ["d/", "gone"]
    assert await api(*change, "isEmpty") is False
    assert await api("changeset", "isEmpty") is True
    assert await api(*change, "sync") == await api(*change, "id")


async def test_both_sides_and_what_is_new(api: Api, change: tuple[Step, ...]) -> None:
    assert await api(*change, "before", "entries") == ["d/", "gone", "mod", "same"]
    assert await api(*change, "after", "entries") == ["mod", "new/", "same"]
    assert await api(*change, "layer", ("glob", {"pattern": "**"})) == ["mod", "new/", "new/file with space"]


async def test_lines_that_changed(api: Api, change: tuple[Step, ...]) -> None:
    names = ("path", "kind", "addedLines", "removedLines", "oldPath")
    found = list(zip(*[await api(*change, "diffStats", n) for n in names], strict=True))
    assert ("mod", "MODIFIED", 2, 1, None) in found
    assert ("new/file with space", "ADDED", 1, 0, None) in found
    assert ("gone", "REMOVED", 0, 1, None) in found
    assert [f[0] for f in found] == sorted(f[0] for f in found)


async def test_the_patch_is_one_that_git_takes(api: Api, change: tuple[Step, ...], tmp_path: Path) -> None:
    text = await api(*change, "asPatch", "contents")
    work = tmp_path / "work"
    await api(("loadDirectoryFromID", {"id": await tree(api, BEFORE)}), ("export", {"path": str(work)}))
    await asyncio.to_thread(subprocess.run, ["git", "apply", "-"], cwd=work, input=text, text=True, check=True)
    found = {str(p.relative_to(work)): p.read_text() for p in work.rglob("*") if p.is_file()}
    assert found == AFTER
    patched = (("loadDirectoryFromID", {"id": await tree(api, BEFORE)}), ("withPatch", {"patch": text}), ("glob", {"pattern": "**/*"}))
    assert "new/file with space" in await api(*patched)


async def test_changes_are_put_onto_another_directory(api: Api, change: tuple[Step, ...], tmp_path: Path) -> None:
    ident = await api(*change, "id")
    other = ("loadDirectoryFromID", {"id": await tree(api, {**BEFORE, "mine": "m"})})
    assert await api(other, ("withChanges", {"changes": ident}), ("glob", {"pattern": "**"})) == [
        "mine",
        "mod",
        "new/",
        "new/file with space",
        "same",
    ]
    out = tmp_path / "out"
    await api(other, ("export", {"path": str(out)}))
    await api(*change, ("export", {"path": str(out)}))
    assert sorted(p.name for p in out.iterdir()) == ["mine", "mod", "new", "same"]


async def test_an_export_removes_nothing_outside(api: Api, change: tuple[Step, ...], tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (elsewhere / "inner").touch()
    (out / "d").symlink_to(elsewhere)
    await api(*change, ("export", {"path": str(out)}))
    assert (elsewhere / "inner").exists()


async def test_change_sets_are_joined_unless_they_meet(api: Api, change: tuple[Step, ...]) -> None:
    base = await tree(api, BEFORE)
    more = await api(
        ("loadDirectoryFromID", {"id": base}), ("withNewFile", {"path": "more", "contents": ""}), ("changes", {"from": base}), "id"
    )
    joined: tuple[Step, ...] = (*change, ("withChangeset", {"changes": more}))
    assert await api(*joined, "addedPaths") == ["more", "new/", "new/file with space"]
    assert await api(*joined, "removedPaths") == ["d/", "gone"]
    assert await api(*change, ("withChangesets", {"changes": [more]}), "addedPaths") == ["more", "new/", "new/file with space"]
    clash = await api(
        ("loadDirectoryFromID", {"id": base}), ("withNewFile", {"path": "mod", "contents": "x"}), ("changes", {"from": base}), "id"
    )
    with pytest.raises(Failed, match="conflicting changes: mod"):
        await api(*change, ("withChangeset", {"changes": clash}), "addedPaths")
    mine = await api(*change, "after", ("file", {"path": "mod"}), "contents")
    for side, kept in (("PREFER_OURS", mine), ("PREFER_THEIRS", "x")):
        merged: tuple[Step, ...] = (*change, ("withChangeset", {"changes": clash, "onConflict": Enum(side)}))
        assert await api(*merged, "after", ("file", {"path": "mod"}), "contents") == kept
    with pytest.raises(Failed, match=r"conflicting changes: mod$"):
        await api(*change, ("withChangeset", {"changes": clash, "onConflict": Enum("FAIL_EARLY")}), "addedPaths")


@pytest.mark.parametrize(
    ("ours", "theirs", "how", "text"),
    [
        ("A\nb\nc\n", "a\nb\nC\n", "FAIL", "A\nb\nC\n"),
        ("A\nb\nc\n", "A\nb\nc\n", "FAIL", "A\nb\nc\n"),
        ("A\nb\nc\n", "X\nb\nC\n", "PREFER_OURS", "A\nb\nC\n"),
        ("A\nb\nc\n", "X\nb\nC\n", "PREFER_THEIRS", "X\nb\nC\n"),
        ("A\nb\nc\n", "X\nb\nc\n", "LEAVE_CONFLICT_MARKERS", "<<<<<<< HEAD\nA\n=======\nX\n>>>>>>> theirs\nb\nc\n"),
        ("A\nb\nc\n", None, "PREFER_OURS", "A\nb\nc\n"),
        ("A\nb\nc\n", None, "LEAVE_CONFLICT_MARKERS", "A\nb\nc\n"),
    ],
)
async def test_lines_of_both_sides(api: Api, ours: str, theirs: str | None, how: str, text: str) -> None:
    base = await tree(api, {"d/f": "a\nb\nc\n"})

    async def changed(contents: str | None) -> str:
        gone, new = ("withoutFile", {"path": "d/f"}), ("withNewFile", {"path": "d/f", "contents": contents})
        return str(await api(("loadDirectoryFromID", {"id": base}), gone if contents is None else new, ("changes", {"from": base}), "id"))

    one, other = await changed(ours), await changed(theirs)
    joined = ("withChangeset", {"changes": other, "onConflict": Enum(how)})
    assert await api(("loadChangesetFromID", {"id": one}), joined, "after", ("file", {"path": "d/f"}), "contents") == text
