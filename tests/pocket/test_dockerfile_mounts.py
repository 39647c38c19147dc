"""`RUN --mount`: options in their long and short names, sizes, and what each kind becomes."""

from typing import Any

import pytest

from pocket.dockerfile.mounts import mounts_of, options_of, script_mount
from pocket.dockerfile.parse import DockerfileError, parse
from pocket.graph import Tree
from pocket.ops.edit import SCRATCH_REF
from pocket.values import Container, MountPoint, Secret

BASE = Container(rootfs=SCRATCH_REF).configure(workdir="/w")
SECRETS = {"tok": Secret("1", "tok")}


async def mounts(option: str) -> tuple[list[MountPoint], list[tuple[str, Secret]]]:
    """Give what one option becomes; trees are named by where they come from."""
    (run,) = parse(f"FROM scratch\nRUN --mount={option} true\n").stages[0].body
    asked: list[str] = []

    async def source(name: str) -> Tree:
        asked.append(name)
        return Tree(SCRATCH_REF, name)

    return await mounts_of(run, BASE, source, SECRETS, lambda text: text.replace("$V", "value"))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("target=/x", {"type": "bind", "target": "/x"}),
        ("type=cache,dst=/x,ro", {"type": "cache", "target": "/x", "readonly": ""}),
        ("type=bind,src=a,destination=/x,rw=true", {"type": "bind", "source": "a", "target": "/x", "readwrite": "true"}),
        ('type=tmpfs,"target=/with,comma"', {"type": "tmpfs", "target": "/with,comma"}),
    ],
)
def test_names_of_options(text: str, options: dict[str, str]) -> None:
    assert {k: v for k, v in options_of(text, 1).items() if k in options} == options


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("type=cache,target=/c", {"kind": "cache", "target": "/c", "owner": ""}),
        ("type=cache,target=c,uid=5", {"kind": "cache", "target": "/w/c", "owner": "5:0"}),
        ("type=tmpfs,target=/t", {"kind": "temp", "size": None}),
        ("type=tmpfs,target=/t,size=64m", {"kind": "temp", "size": 64 << 20}),
        ("type=tmpfs,target=/t,size=100", {"kind": "temp", "size": 100}),
        ("target=/$V", {"kind": "directory", "target": "/value", "readonly": True}),
        ("target=/x,from=stage,source=/a/b", {"kind": "directory", "tree": Tree(SCRATCH_REF, "stage/a/b")}),
        ("target=/x,rw", {"kind": "directory", "readonly": False}),
        ("type=secret,id=tok", {"kind": "secret", "target": "/run/secrets/tok", "mode": 0o400, "owner": "0:0"}),
        ("type=secret,id=tok,target=/s,mode=0440,uid=1,gid=2", {"target": "/s", "mode": 0o440, "owner": "1:2"}),
    ],
)
async def test_what_an_option_becomes(option: str, expected: dict[str, Any]) -> None:
    (made,), _ = await mounts(option)
    assert {name: getattr(made, name) for name in expected} == expected


async def test_secrets_as_variables() -> None:
    assert await mounts("type=secret,id=tok,env=T") == ([], [("T", SECRETS["tok"])])
    both = await mounts("type=secret,id=tok,env=T,target=/s")
    assert [m.target for m in both[0]] == ["/s"]
    assert both[1] == [("T", SECRETS["tok"])]
    assert await mounts("type=secret,id=unknown") == ([], [])


async def test_volumes_are_told_apart_by_id() -> None:
    volumes = [(await mounts(o))[0][0].cache for o in ("type=cache,target=/a", "type=cache,target=/b", "type=cache,target=/b,id=/a")]
    assert volumes[0] == volumes[2] != volumes[1]
    locked = (await mounts("type=cache,target=/a,sharing=locked"))[0][0].cache
    assert locked is not None
    assert locked.sharing == "LOCKED"
    seeded = (await mounts("type=cache,target=/a,from=stage,source=s"))[0][0].cache
    assert seeded is not None
    assert seeded.seed == Tree(SCRATCH_REF, "stage/s")


@pytest.mark.parametrize("option", ["type=nope", "type=cache", "type=tmpfs", "type=bind", "type=ssh", "type=secret,id=no,required=true"])
async def test_refusals_name_the_line(option: str) -> None:
    with pytest.raises(DockerfileError, match="line 2"):
        await mounts(option)


def test_a_script_is_an_executable_file() -> None:
    made = script_mount("/dev/pipes/EOF", "#!/bin/sh\n")
    assert (made.target, made.kind) == ("/dev/pipes/EOF", "file")
    assert made.leaf is not None
