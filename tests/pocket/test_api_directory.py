"""Directories and files through the API: composing, looking in, exporting, and the words of errors."""

from pathlib import Path
from typing import Any

import pytest
from inprocess import Api
from sessions import Failed, Step


def new(path: str, contents: str = "", **more: Any) -> Step:
    """Give the step that writes a file."""
    return ("withNewFile", {"path": path, "contents": contents, **more})


GLOB: Step = ("glob", {"pattern": "**"})


async def directory(api: Api, *names: str) -> str:
    """Make a directory of files with their own names; give its ID."""
    ident: str = await api("directory", *(new(n, n) for n in names), "id")
    return ident


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ([new("a/b"), new("c"), GLOB], ["a/", "a/b", "c"]),
        ([new("a/b"), "entries"], ["a/"]),
        ([new("a/b"), ("entries", {"path": "a"})], ["b"]),
        ([new("a/b"), ("directory", {"path": "a"}), "name"], "a/"),
        (["name"], "/"),
        ([new("a/b"), ("directory", {"path": "a"}), new("c"), "name"], "a/"),
        ([new("a-b"), new("a/c"), "entries"], ["a/", "a-b"]),
        ([("withError", {"err": ""}), "entries"], []),
        ([new("f", "1", permissions=0o600), new("f", "2"), ("stat", {"path": "f"}), "permissions"], 0o600),
        ([new("f", "1", permissions=0), ("stat", {"path": "f"}), "permissions"], 0o644),
        ([new("f", "1", permissions=0o4755), ("stat", {"path": "f"}), "permissions"], 0o755),
        ([("withNewDirectory", {"path": "d/e", "permissions": 0o700}), ("stat", {"path": "d"}), "permissions"], 0o700),
        ([new("../f"), "entries"], ["f"]),
        ([new("q"), ("withoutFile", {"path": "?"}), "entries"], ["q"]),
        ([new("f", "1\n2\n"), ("file", {"path": "f"}), ("contents", {"limitLines": -1})], "1\n2\n"),
        ([new("f", "1\r2\n3"), ("file", {"path": "f"}), ("contents", {"limitLines": 1})], "1\r2\n"),
        ([new("d/f", "12"), ("file", {"path": "d/f"}), ("withName", {"name": "g"}), "stat", "name"], "g"),
        ([("exists", {"path": ""})], False),
        ([("withNewDirectory", {"path": "d", "permissions": 0o700}), ("stat", {"path": "d"}), "permissions"], 0o700),
        ([new("a"), ("withoutFile", {"path": "a"}), "entries"], []),
        ([new("a/b"), new("a/c"), ("withoutFiles", {"paths": ["a/b", "no"]}), GLOB], ["a/", "a/c"]),
        ([new("a/b"), ("withoutDirectory", {"path": "a"}), GLOB], []),
        ([("withSymlink", {"target": "t", "linkName": "l"}), ("stat", {"path": "l", "doNotFollowSymlinks": True}), "fileType"], "SYMLINK"),
        ([new("a.py"), new("b"), ("filter", {"include": ["*.py"]}), "entries"], ["a.py"]),
        ([new("a.py"), new("b"), ("filter", {"exclude": ["*.py"]}), "entries"], ["b"]),
        ([new("d/x", "1"), ("directory", {"path": "d"}), new("y"), "entries"], ["x", "y"]),
        ([new("a/m"), new("a/b/n"), ("findUp", {"name": "m", "start": "a/b"})], "a/m"),
        ([new("f", "x y\n"), ("search", {"pattern": "y"}), "matchedLines"], ["x y\n"]),
        ([new("f", "x\ny\n"), ("search", {"pattern": "y"}), "lineNumber"], [2]),
        ([new("f", "x\ny\n"), ("search", {"pattern": "y"}), "absoluteOffset"], [2]),
        ([new("f"), ("exists", {"path": "f"})], True),
        ([new("f", "123"), ("stat", {"path": "f"}), "size"], 3),
        ([new("f", "123"), ("stat", {"path": "f"}), "name"], "f"),
        ([new("f", "a"), ("chown", {"path": "f", "owner": "5:6"}), ("file", {"path": "f"}), "contents"], "a"),
        ([new("f", "1\n2\n"), ("file", {"path": "f"}), ("contents", {"offsetLines": 1})], "2\n"),
        ([new("d/f", "12"), ("file", {"path": "d/f"}), "size"], 2),
        ([new("d/f"), ("file", {"path": "d/f"}), ("withName", {"name": "g"}), "name"], "g"),
        ([new("f", "a"), ("file", {"path": "f"}), ("withReplaced", {"search": "a", "replacement": "b"}), "contents"], "b"),
        ([new("f", "a", permissions=0o600), ("file", {"path": "f"}), "stat", "permissions"], 0o600),
        ([new("f", "a"), ("file", {"path": "f"}), ("chown", {"owner": "5:6"}), "contents"], "a"),
        ([new("f", "a"), ("file", {"path": "f"}), ("search", {"pattern": "a"}), "filePath"], ["f"]),
        ([new("f", "a\na"), ("file", {"path": "f"}), ("search", {"pattern": "a", "filesOnly": True}), "filePath"], ["f"]),
        ([new("f", "a"), ("withTimestamps", {"timestamp": 5}), ("file", {"path": "f"}), "contents"], "a"),
        ([new("f", "a"), ("file", {"path": "f"}), ("withTimestamps", {"timestamp": 5}), "contents"], "a"),
    ],
)
async def test_composing_and_looking_in(api: Api, steps: list[Step], value: Any) -> None:
    assert await api("directory", *steps) == value


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("directory", {"path": "no"}), "id"], "no: no such file or directory"),
        ([("file", {"path": "no"}), "id"], "no: no such file or directory"),
        ([new("f"), ("directory", {"path": "f"}), "id"], "path f is a file, not a directory"),
        ([new("d/f"), ("file", {"path": "d"}), "id"], "path d is a directory, not a file"),
        ([("stat", {"path": "no"}), "size"], "no: no such file or directory"),
        ([("withNewDirectory", {"path": "../x"}), "id"], "cannot create directory outside parent"),
        ([("withError", {"err": "meant"}), "id"], "meant"),
        ([new("f"), ("chown", {"path": "f", "owner": "root"}), "sync"], "no such user: root"),
        ([new("f"), ("search", {"pattern": "("}), "filePath"], "invalid search pattern"),
    ],
)
async def test_refusals(api: Api, steps: list[Step], message: str) -> None:
    with pytest.raises(Failed, match=message):
        await api("directory", *steps)


async def test_directories_in_directories(api: Api) -> None:
    source = await directory(api, "a", "b.log", "n/c")
    merged = await api("directory", new("old"), ("withDirectory", {"path": "d", "source": source, "exclude": ["*.log"]}), GLOB)
    assert merged == ["d/", "d/a", "d/n/", "d/n/c", "old"]
    assert await api(("loadDirectoryFromID", {"id": source}), ("diff", {"other": await directory(api, "a", "x")}), GLOB) == ["x"]
    file = await api(("loadDirectoryFromID", {"id": source}), ("file", {"path": "n/c"}), "id")
    assert await api("directory", ("withFile", {"path": "to/", "source": file}), GLOB) == ["to/", "to/c"]
    assert await api("directory", ("withFiles", {"path": "to", "sources": [file, file]}), GLOB) == ["to/", "to/c"]


async def test_changes_between_directories(api: Api) -> None:
    before, after = await directory(api, "gone", "same"), await directory(api, "same", "new")
    changes: tuple[Step, ...] = (("loadDirectoryFromID", {"id": after}), ("changes", {"from": before}))
    assert [await api(*changes, n) for n in ("addedPaths", "modifiedPaths", "removedPaths")] == [["new"], [], ["gone"]]


async def test_patches_as_texts_and_files(api: Api) -> None:
    patch = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-one\n+two\n"
    base = ("directory", new("f", "one\n"))
    assert await api(*base, ("withPatch", {"patch": patch}), ("file", {"path": "f"}), "contents") == "two\n"
    file = await api(("file", {"name": "p", "contents": patch}), "id")
    assert await api(*base, ("withPatchFile", {"patch": file}), ("file", {"path": "f"}), "contents") == "two\n"


async def test_single_files(api: Api) -> None:
    assert await api(("file", {"name": "n", "contents": "c", "permissions": 0o640}), "stat", "permissions") == 0o640
    for name, message in (("a/b", "must not contain a directory"), ("x" * 256, "exceeds the maximum")):
        with pytest.raises(Failed, match=message):
            await api(("file", {"name": name, "contents": ""}), "contents")
    digests = [await api(("file", {"name": n, "contents": "same"}), ("digest", {"excludeMetadata": True})) for n in "ab"]
    assert digests[0] == digests[1]


async def test_sync_gives_the_object_back(api: Api) -> None:
    ident = await directory(api, "a")
    assert await api(("loadDirectoryFromID", {"id": ident}), "sync") == ident
    file = await api(("loadDirectoryFromID", {"id": ident}), ("file", {"path": "a"}), "id")
    assert await api(("loadFileFromID", {"id": file}), "sync") == file


async def test_export(api: Api, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    source: Step = ("loadDirectoryFromID", {"id": await directory(api, "a", "n/b")})
    assert await api(source, ("export", {"path": str(out)})) == str(out)
    assert sorted(p.name for p in out.iterdir()) == ["a", "n", "old"]
    await api(source, ("export", {"path": str(out), "wipe": True}))
    assert sorted(p.name for p in out.iterdir()) == ["a", "n"]
    assert await api(source, ("file", {"path": "a"}), ("export", {"path": "relative/f"})) == str(tmp_path / "relative/f")
    with pytest.raises(Failed, match="is a directory; must be a file path"):
        await api(source, ("file", {"path": "a"}), ("export", {"path": str(out)}))


async def test_the_host(api: Api, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.py").write_text("x")
    (tmp_path / "in" / "sub" / "b").write_text("y")
    (tmp_path / "mark").touch()
    assert await api("host", ("directory", {"path": "in", "exclude": ["sub"]}), GLOB) == ["a.py"]
    assert await api("host", ("file", {"path": "in/a.py"}), "contents") == "x"
    assert await api("host", ("findUp", {"name": "mark"})) == "mark"
    assert await api("host", ("findUp", {"name": "no-such-name-anywhere"})) is None
    with pytest.raises(Failed, match="is not a socket"):
        await api("host", ("unixSocket", {"path": "mark"}), "id")
    with pytest.raises(Failed, match="absent"):
        await api("host", ("directory", {"path": "absent"}), "entries")


async def test_a_file_too_large_to_be_said_is_refused_with_advice(api: Api, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as f:
        f.truncate((128 << 20) + 1)
    with pytest.raises(Failed, match="bytes; contents"):
        await api("host", ("file", {"path": "large"}), "contents")
