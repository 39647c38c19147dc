"""Container values: paths, variables and mounts, without anything that runs."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocket.errors import PocketError
from pocket.ops.edit import SCRATCH_REF
from pocket.values import Container, MountPoint, Pair, Secret, drop, labels_of, put

EMPTY = Container(rootfs=SCRATCH_REF)
NAMES = st.from_regex("[A-Za-z]{1,5}", fullmatch=True)


@given(st.lists(st.sampled_from(["a", "b", ".", "..", ""]), max_size=6), st.booleans())
def test_a_path_is_absolute_and_normal_and_stays_inside(parts: list[str], absolute: bool) -> None:
    path = EMPTY.configure(workdir="/w/x").resolve(("/" if absolute else "") + "/".join(parts))
    assert path.startswith("/")
    assert not path.startswith("//")
    assert path == posixpath.normpath(path)
    assert ".." not in path.split("/")


def test_paths_begin_at_the_working_directory() -> None:
    c = EMPTY.configure(workdir="/w")
    assert [c.resolve(p) for p in ("f", "/f", ".", "../f", "")] == ["/w/f", "/f", "/w", "/f", "/w"]
    assert EMPTY.resolve("f") == "/f"


@given(st.lists(st.tuples(NAMES, st.text())))
def test_the_last_value_of_a_name_stays_in_the_first_place(values: list[tuple[str, str]]) -> None:
    pairs: tuple[Pair, ...] = ()
    for name, text in values:
        pairs = put(pairs, name, text)
    assert [p.name for p in pairs] == list(dict.fromkeys(name for name, _ in values))
    assert {p.name: p.value for p in pairs} == dict(values)
    for name, _ in values:
        pairs = drop(pairs, name)
    assert pairs == ()


def test_variables_are_expanded_from_the_container() -> None:
    c = EMPTY.configure(env=(Pair("A", "1"), Pair("B_2", "$A")))
    assert c.expand("$A-${A}-$B_2-${NONE}$NONE-$$A-$-${}-\\$A") == "1-1-$A--A--\\1"


@pytest.mark.parametrize("text", ["$S", "x${S}y", "$V"])
def test_what_must_not_reach_a_graph_is_not_expanded(text: str) -> None:
    c = EMPTY.change(secret_env=(("S", Secret("id", "name")),), volatile_env=(Pair("V", "1"),))
    with pytest.raises(PocketError, match="expand cannot be used with"):
        c.expand(text)


def test_the_innermost_mount_holds_a_path() -> None:
    mounts = tuple(MountPoint(target=t, kind="temp") for t in ("/m", "/m/n", "/other"))
    c = EMPTY.change(mounts=mounts)
    found = {p: c.mount_at(p) for p in ("/m", "/m/x", "/m/n/x", "/mm", "/")}
    assert [m.target if m else None for m in found.values()] == ["/m", "/m", "/m/n", None, None]
    assert EMPTY.change(mounts=(MountPoint(target="/", kind="temp"),)).mount_at("/x") is not None


def test_a_changed_container_is_no_longer_the_image_it_came_from() -> None:
    c = Container(rootfs=SCRATCH_REF, image_ref="image@sha256:0")
    assert c.configure(user="x").image_ref == ""
    assert c.image_ref


def test_labels_are_in_a_fixed_order() -> None:
    assert labels_of({"b": "2", "a": "1"}) == labels_of({"a": "1", "b": "2"})
