"""Builds that run no command: which files come along, what the image is told, and which errors name their line."""

from typing import Any

import pytest
from inprocess import Api
from sessions import Failed, Step

from pocket.dockerfile.modes import parse
from pocket.dockerfile.parse import DockerfileError


def context(dockerfile: str, *names: str) -> tuple[Step, ...]:
    """Give the steps that make a build context with files that hold their own name."""
    files = tuple(("withNewFile", {"path": n, "contents": n}) for n in names)
    return ("directory", ("withNewFile", {"path": "Dockerfile", "contents": dockerfile}), *files)


async def built(api: Api, dockerfile: str, *names: str, steps: tuple[Step, ...], **options: Any) -> Any:
    """Build and ask for something of the image."""
    return await api(*context("FROM scratch\n" + dockerfile, *names), ("dockerBuild", options) if options else "dockerBuild", *steps)


def glob(path: str = "/") -> tuple[Step, ...]:
    """Ask for all paths below a directory."""
    return (("directory", {"path": path}), ("glob", {"pattern": "**"}))


@pytest.mark.parametrize(
    ("dockerfile", "found"),
    [
        ("COPY a /x", ["x"]),
        ("COPY a /x/", ["x/", "x/a"]),
        ("COPY a d/b /x/", ["x/", "x/a", "x/b"]),
        ("COPY d /x", ["x/", "x/b", "x/e/", "x/e/c"]),
        ("COPY d/* /x/", ["x/", "x/b", "x/c"]),
        ("COPY ? /x/", ["x/", "x/a", "x/b", "x/e/", "x/e/c"]),
        ("COPY --exclude=**/c d /x", ["x/", "x/b", "x/e/"]),
        ("COPY --parents d/e/c /x/", ["x/", "x/d/", "x/d/e/", "x/d/e/c"]),
        ("COPY --parents d/./e/c /x/", ["x/", "x/e/", "x/e/c"]),
        ("WORKDIR /w\nCOPY a .", ["w/", "w/a"]),
        ("WORKDIR /w\nCOPY a b/", ["w/", "w/b/", "w/b/a"]),
        ("ADD a /x", ["x"]),
        ("COPY <<one <<two /x/\n1\none\n2\ntwo", ["x/", "x/one", "x/two"]),
        ("ENV D=there\nCOPY a /$D/${NONE:-f}", ["there/", "there/f"]),
    ],
)
async def test_where_files_go(api: Api, dockerfile: str, found: list[str]) -> None:
    assert await built(api, dockerfile, "a", "d/b", "d/e/c", steps=glob()) == found


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("COPY nope /x", 'line 2: "/nope": not found'),
        ("RUN --mount=type=nope true", "line 2: unsupported mount type 'nope'"),
        ("RUN --mount=type=cache true", "line 2: a cache mount needs a target"),
        ("RUN --mount=type=ssh true", "line 2: not supported by pocket"),
        ("COPY *.none /x/", 'line 2: no source files matched "*.none"'),
        ("COPY a b /x", "line 2: when using COPY with more than one source"),
        ("COPY a", "line 2: COPY requires at least two arguments"),
        ("COPY --chmod=u+q a /x", "invalid chmod value"),
        ("COPY --from=nope:9 a /x", "nope"),
        ("ADD https://example.invalid/f /x", "line 2: not supported by pocket: ADD https://"),
        ("ADD git@example.invalid:x.git /x", "line 2: not supported by pocket: ADD git@"),
        ("EXPOSE many", "line 2: invalid containerPort: many"),
        ("SHELL sh", "line 2: SHELL requires the arguments to be in JSON form"),
        ("ENV A='open", "line 2"),
        ("ONBUILD FROM x", "line 2: FROM isn't allowed"),
        ("HEALTHCHECK --bogus=1 CMD x", "line 2: unknown flag: bogus"),
        ("FROM --platform=linux/s390x scratch", "line 2: pocket builds"),
        ("ARG N\nFROM $N", "line 3: base name ($N) should not be blank"),
    ],
)
async def test_errors_say_where(api: Api, dockerfile: str, message: str) -> None:
    with pytest.raises(Failed) as caught:
        await built(api, dockerfile, "a", "b", steps=("sync",))
    assert message in str(caught.value)


async def test_settings_of_the_image(api: Api) -> None:
    df = (
        "LABEL a=1 b='two words'\nENV P=8 Q=x\nEXPOSE ${P}0 9/udp\nUSER 7:8\nWORKDIR /a\nWORKDIR b\nVOLUME /v /w\n"
        'STOPSIGNAL SIGINT\nMAINTAINER nobody\nSHELL ["/s", "-x"]\nENTRYPOINT run it\nCMD ["c"]\n'
        "HEALTHCHECK --interval=2s --timeout=1m --start-period=3s --start-interval=4s --retries=5 CMD check me\n"
    )

    async def ask(*steps: Step) -> Any:
        return await built(api, df, steps=steps)

    assert await ask("labels", "value") == ["1", "two words"]
    assert await ask("exposedPorts", "port") == [80, 9]
    assert await ask("exposedPorts", "protocol") == ["TCP", "UDP"]
    assert [await ask(n) for n in ("user", "workdir")] == ["7:8", "/a/b"]
    assert await ask("entrypoint") == ["/s", "-x", "run it"]
    assert await ask("defaultArgs") == ["c"]
    check = [await ask("dockerHealthcheck", n) for n in ("args", "shell", "interval", "timeout", "startPeriod", "startInterval", "retries")]
    assert check == [["check me"], True, "2s", "1m0s", "3s", "4s", 5]


async def test_a_health_check_can_be_taken_away(api: Api) -> None:
    assert await built(api, "HEALTHCHECK CMD x\nHEALTHCHECK NONE\n", steps=("dockerHealthcheck", "args")) == ["NONE"]


@pytest.mark.parametrize(
    ("before", "given", "value"),
    [
        ("", [], "default"),
        ("", [{"name": "A", "value": "given"}], "given"),
        ("ARG A=global\n", [], "default"),
        ("ARG A=global\n", [{"name": "A", "value": "given"}], "given"),
    ],
)
async def test_arguments(api: Api, before: str, given: list[dict[str, str]], value: str) -> None:
    steps = context(before + "FROM scratch\nARG A=default\nENV E=$A\n")
    assert await api(*steps, ("dockerBuild", {"buildArgs": given}), ("envVariable", {"name": "E"})) == value


async def test_arguments_of_the_platform(api: Api) -> None:
    steps = context("FROM scratch\nARG TARGETOS TARGETARCH\nENV E=$TARGETOS-$TARGETARCH\n")
    assert await api(*steps, "dockerBuild", ("envVariable", {"name": "E"})) in ("linux-amd64", "linux-arm64")


async def test_only_the_stages_that_are_needed_are_looked_at(api: Api) -> None:
    df = "FROM scratch AS bad\nCOPY nope /x\nFROM scratch AS one\nCOPY a /1\nFROM scratch\nCOPY --from=one /1 /2\nCOPY --from=1 / /all/\n"
    assert await api(*context(df, "a"), "dockerBuild", *glob()) == ["2", "all/", "all/1"]
    assert await api(*context(df, "a"), ("dockerBuild", {"target": "one"}), *glob()) == ["1"]


async def test_what_is_ignored_does_not_come_along(api: Api) -> None:
    steps = (
        *context("FROM scratch\nCOPY . /\n", "a", "b.log", "keep.log", "n/c"),
        ("withNewFile", {"path": ".dockerignore", "contents": "*.log\n!keep.log\nn\n.d*\n"}),
    )
    assert await api(*steps, "dockerBuild", *glob()) == ["Dockerfile", "a", "keep.log"]


async def test_files_have_the_owners_and_modes_that_were_asked_for(api: Api) -> None:
    df = "COPY --chmod=640 a /x\nCOPY --chmod=u=rwX,go=rX d /y\nCOPY --chmod=g+w,o-r a /z\n"
    permissions = [await built(api, df, "a", "d/b", steps=(("stat", {"path": p}), "permissions")) for p in ("/x", "/y", "/y/b", "/z")]
    assert permissions == [0o640, 0o755, 0o644, 0o660]


async def test_symbolic_modes_go_by_each_file(api: Api) -> None:
    """X is for what runs already, and each file keeps the rest of its own mode."""
    modes = {"d/run": 0o700, "d/read": 0o600, "d/both": 0o711}
    files = tuple(("withNewFile", {"path": p, "contents": "", "permissions": m}) for p, m in modes.items())
    steps = (*context("FROM scratch\nCOPY --chmod=go=u,a+X,o-w d /y\n"), *files, "dockerBuild")
    permissions = [await api(*steps, ("stat", {"path": p}), "permissions") for p in ("/y/run", "/y/read", "/y/both", "/y")]
    assert permissions == [0o775, 0o664, 0o775, 0o775]


@pytest.mark.parametrize(
    ("text", "old", "of_file", "of_directory"),
    [
        ("755", 0o600, 0o755, 0o755), ("01777", 0, 0o1777, 0o1777), ("u=rwX,go=rX", 0o600, 0o644, 0o755),
        ("u=rwX,go=rX", 0o710, 0o755, 0o755), ("g=u-w,o=", 0o646, 0o640, 0o640), ("+x", 0o644, 0o755, 0o755),
        ("a-x+X", 0o755, 0o755, 0o755), ("u+s,g+s,+t", 0o755, 0o7755, 0o7755), ("u=rw", 0o4755, 0o655, 0o655),
        ("o=g", 0o640, 0o644, 0o644), ("ug-s,o-t", 0o7755, 0o755, 0o755), ("u=", 0o700, 0, 0), ("=", 0o777, 0, 0),
    ],
)  # fmt: skip
def test_modes(text: str, old: int, of_file: int, of_directory: int) -> None:
    assert (parse(text)(old, False), parse(text)(old, True)) == (of_file, of_directory)


@pytest.mark.parametrize("text", ["", "8", "77777", "u", "u+q", "z+r", "u+r,", "u=rg", "0o644"])
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(DockerfileError, match="invalid chmod value"):
        parse(text)


async def test_a_missing_dockerfile_is_said(api: Api) -> None:
    with pytest.raises(Failed, match=r"failed to read dockerfile: other/Dockerfile: no such file or directory"):
        await api("directory", ("dockerBuild", {"dockerfile": "other/Dockerfile"}), "sync")
