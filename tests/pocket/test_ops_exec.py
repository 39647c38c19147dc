"""What counts for a command's key, and what does not; and how its output is kept."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from inprocess import Api

from pocket.errors import PocketError
from pocket.ops.edit import SCRATCH_REF
from pocket.ops.exec import Exec, environment
from pocket.ops.streams import ERROR_TAIL, error_tail
from pocket.values import CacheVolume, Container, MountPoint, Pair, Secret

BASE = Container(rootfs=SCRATCH_REF)
OP = Exec(container=BASE, argv=("true",))


def volume(*, sharing: str = "SHARED", owner: str = "") -> Container:
    """Give a container with a cache volume."""
    return BASE.change(mounts=(MountPoint(target="/c", kind="cache", cache=CacheVolume("v", sharing, owner=owner)),))


def with_secret(secret: Secret) -> Container:
    """Give a container with a secret as a variable."""
    return BASE.change(secret_env=(("S", secret),))


COUNTS: list[tuple[str, Exec]] = [
    ("arguments", replace(OP, argv=("true", ""))),
    ("input", replace(OP, stdin="x")),
    ("redirections", replace(OP, redirects=("", "/o", ""))),
    ("what is expected", replace(OP, expect="ANY")),
    ("privileges", replace(OP, insecure=True)),
    ("pid 1", replace(OP, no_init=True)),
    ("network", replace(OP, network="none")),
    ("user", replace(OP, container=BASE.configure(user="a"))),
    ("directory", replace(OP, container=BASE.configure(workdir="/a"))),
    ("variables", replace(OP, container=BASE.configure(env=(Pair("A", "1"),)))),
    ("names of volatile variables", replace(OP, container=BASE.change(volatile_env=(Pair("V", "1"),)))),
    ("a temporary mount", replace(OP, container=BASE.change(mounts=(MountPoint(target="/t", kind="temp"),)))),
    ("its size", replace(OP, container=BASE.change(mounts=(MountPoint(target="/t", kind="temp", size=1),)))),
    ("a volume", replace(OP, container=volume())),
    ("its sharing", replace(OP, container=volume(sharing="LOCKED"))),
    ("its owner", replace(OP, container=volume(owner="app"))),
    ("a secret's name", replace(OP, container=with_secret(Secret("1", "name")))),
    ("another secret's name", replace(OP, container=with_secret(Secret("1", "other")))),
]


async def test_everything_a_command_can_see_counts(api: Api) -> None:
    seen = [str(op.args(api.engine)) for _, op in [("nothing", OP), *COUNTS]]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.configure(labels=(Pair("a", "1"),)),
        lambda c: c.configure(entrypoint=("e",), cmd=("c",)),
        lambda c: c.change(volatile_env=(Pair("V", "2"),)),
        lambda c: c.change(secret_env=(("S", Secret("another identity", "name")),)),
    ],
)
async def test_what_it_cannot_see_does_not_count(api: Api, change: Callable[[Container], Container]) -> None:
    base = BASE.change(volatile_env=(Pair("V", "1"),), secret_env=(("S", Secret("id", "name")),))
    assert replace(OP, container=base).args(api.engine) == replace(OP, container=change(base)).args(api.engine)


async def test_the_environment_of_a_command(api: Api) -> None:
    secret = api.engine.secrets.keep("s", b"hidden \xff")
    c = BASE.configure(env=(Pair("A", "1"), Pair("B", "2"), Pair("S", "plain")))
    c = c.change(volatile_env=(Pair("B", "volatile"),), secret_env=(("S", secret),))
    found = environment(api.engine, c)
    assert found[0] == "A=1"
    assert "B=volatile" in found
    assert found[-1] == "S=hidden \udcff"
    assert sum(v.startswith("PATH=") for v in found) == 1
    assert len(found) == 4


@pytest.mark.parametrize("pair", [Pair("", "x"), Pair("A", "x\0y"), Pair("A\0", "x")])
async def test_an_environment_that_no_process_can_have_is_refused(api: Api, pair: Pair) -> None:
    with pytest.raises(PocketError, match="the environment variable"):
        environment(api.engine, BASE.configure(env=(pair,)))


def test_the_end_of_long_output_is_told() -> None:
    assert error_tail(b"  text \n") == "text"
    assert error_tail(b"\xff") == "�"
    long = b"a" * ERROR_TAIL + b"end"
    assert error_tail(long) == "[omitting 3 bytes]..." + "a" * (ERROR_TAIL - 3) + "end"
