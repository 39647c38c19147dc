"""Files of containers: in the root file system or in the mount that holds the path."""

from typing import Any

import pytest
from inprocess import Api
from sessions import Failed, Step

PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"


def new(path: str, contents: str = "", **more: Any) -> Step:
    """Give the step that writes a file."""
    return ("withNewFile", {"path": path, "contents": contents, **more})


def read(path: str) -> tuple[Step, Step]:
    """Give the steps that read a file."""
    return ("file", {"path": path}), "contents"


async def tree(api: Api, *names: str) -> str:
    """Make a directory; give its ID."""
    ident: str = await api("directory", *(new(n, n) for n in names), "id")
    return ident


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ([new("/a/b", "x"), *read("/a/b")], "x"),
        ([("withWorkdir", {"path": "/w"}), new("f", "x"), *read("/w/f")], "x"),
        (
            [
                ("withEnvVariable", {"name": "D", "value": "/d"}),
                new("$D/f", "x", expand=True),
                ("file", {"path": "${D}/f", "expand": True}),
                "contents",
            ],
            "x",
        ),
        ([new("/a", "x"), ("withSymlink", {"target": "/a", "linkName": "/l"}), *read("/l")], "x"),
        ([new("/a"), new("/b"), ("withoutFile", {"path": "/a"}), "rootfs", "entries"], ["b"]),
        ([new("/a"), new("/b"), ("withoutFiles", {"paths": ["/a", "/b"]}), "rootfs", "entries"], []),
        ([new("/d/a"), ("withoutDirectory", {"path": "/d"}), ("exists", {"path": "/d"})], False),
        ([new("/d/a"), ("directory", {"path": "/d"}), "entries"], ["a"]),
        ([new("/d/a", permissions=0o600), ("stat", {"path": "/d/a"}), "permissions"], 0o600),
        ([new("/etc/passwd", PASSWD), new("/f", "x", owner="app"), *read("/f")], "x"),
        ([new("/x", "y"), ("withMountedTemp", {"path": "/t"}), *read("/x")], "y"),
    ],
)
async def test_the_root_file_system(api: Api, steps: list[Step], value: Any) -> None:
    assert await api("container", *steps) == value


async def test_directories_and_files_copied_in(api: Api) -> None:
    source = await tree(api, "a", "b.log", "n/c")
    steps: tuple[Step, ...] = ("container", ("withDirectory", {"path": "/d", "source": source, "exclude": ["*.log"]}))
    assert await api(*steps, "rootfs", ("glob", {"pattern": "**"})) == ["d/", "d/a", "d/n/", "d/n/c"]
    file = await api(("loadDirectoryFromID", {"id": source}), ("file", {"path": "n/c"}), "id")
    assert await api(*steps, ("withFile", {"path": "/d/", "source": file}), *read("/d/c")) == "n/c"
    assert (
        await api(*steps, ("withFile", {"path": "/e", "source": file, "permissions": 0o600}), ("stat", {"path": "/e"}), "permissions")
        == 0o600
    )
    assert await api(*steps, ("withFiles", {"path": "/m", "sources": [file]}), ("directory", {"path": "/m"}), "entries") == ["c"]
    assert await api("container", ("withRootfs", {"directory": source}), "rootfs", "entries") == ["a", "b.log", "n/"]


async def test_a_mounted_directory_is_read_and_written_in_its_place(api: Api) -> None:
    mounted: tuple[Step, ...] = (
        "container",
        new("/m/below"),
        ("withMountedDirectory", {"path": "/m", "source": await tree(api, "a", "n/b")}),
    )
    assert await api(*mounted, ("directory", {"path": "/m"}), "entries") == ["a", "n/"]
    assert await api(*mounted, ("directory", {"path": "/m/n"}), "entries") == ["b"]
    assert await api(*mounted, new("/m/n/x", "new"), *read("/m/n/x")) == "new"
    assert await api(*mounted, new("/m/n/x"), ("withoutMount", {"path": "/m"}), ("directory", {"path": "/m"}), "entries") == ["below"]
    assert await api(*mounted, ("withoutFile", {"path": "/m/a"}), ("exists", {"path": "/m/a"})) is False
    assert await api(*mounted, "rootfs", ("directory", {"path": "m"}), "entries") == ["below"]


async def test_part_of_a_directory_mounted(api: Api) -> None:
    part = await api(("loadDirectoryFromID", {"id": await tree(api, "n/b", "a")}), ("directory", {"path": "n"}), "id")
    mounted: tuple[Step, ...] = ("container", ("withMountedDirectory", {"path": "/m", "source": part, "owner": "1:2"}))
    assert await api(*mounted, ("directory", {"path": "/m"}), "entries") == ["b"]


async def test_a_mounted_file(api: Api) -> None:
    file = await api(("file", {"name": "f", "contents": "mounted"}), "id")
    mounted: tuple[Step, ...] = ("container", ("withMountedFile", {"path": "/etc/f", "source": file}))
    assert await api(*mounted, *read("/etc/f")) == "mounted"
    assert await api(*mounted, "mounts") == ["/etc/f"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("file", {"path": "/no"}), "id"], "/no: no such file"),
        ([new("/f"), ("directory", {"path": "/f"}), "id"], "is a file, not a directory"),
        ([("withMountedTemp", {"path": "/t"}), ("file", {"path": "/t/x"}), "id"], "cannot retrieve path from tmpfs"),
        ([new("/f", owner="ghost"), "sync"], "no such user: ghost"),
        ([("stat", {"path": "/no"}), "size"], "no: no such file"),
    ],
)
async def test_refusals(api: Api, steps: list[Step], message: str) -> None:
    with pytest.raises(Failed, match=message):
        await api("container", *steps)


async def test_cache_volumes_cannot_be_looked_into(api: Api) -> None:
    volume = await api(("cacheVolume", {"key": "k"}), "id")
    with pytest.raises(Failed, match="cannot retrieve path from cache"):
        await api("container", ("withMountedCache", {"path": "/c", "cache": volume}), *read("/c/f"))


async def test_a_mount_hides_the_mounts_below_it(api: Api) -> None:
    steps: list[Step] = [("withMountedTemp", {"path": p}) for p in ("/a/b", "/ab", "/a/b/c", "/a")]
    assert await api("container", *steps, "mounts") == ["/ab", "/a"]


async def test_secrets_are_never_read_as_files(api: Api) -> None:
    secret = await api(("setSecret", {"name": "s", "plaintext": "p"}), "id")
    with pytest.raises(Failed, match="no such file or directory"):
        await api("container", ("withMountedSecret", {"path": "/s", "source": secret}), *read("/s"))
