"""Commands through the API: streams, codes, redirections, users, mounts and volumes of a real run."""

from typing import Any

import pytest
from sessions import Enum, Failed, Session, Step

Steps = tuple[Step, ...]


def sh(script: str, **more: Any) -> Step:
    """Give the step that runs a shell script."""
    return ("withExec", {"args": ["sh", "-c", script], **more})


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ([sh("echo a; echo b >&2"), "stdout"], "a\n"),
        ([sh("echo a; echo b >&2"), "stderr"], "b\n"),
        ([sh("echo a; sleep 0.2; echo b >&2"), "combinedOutput"], "a\nb\n"),
        ([sh("exit 3", expect=Enum("ANY")), "exitCode"], 3),
        ([sh("true"), "exitCode"], 0),
        ([sh("cat", stdin="in"), "stdout"], "in"),
        ([("withExec", {"args": ["cat"], "stdin": "in", "redirectStdout": "/o"}), ("file", {"path": "/o"}), "contents"], "in"),
        ([("withDefaultArgs", {"args": ["echo", "d"]}), ("withExec", {"args": []}), "stdout"], "d\n"),
        ([("withEntrypoint", {"args": ["echo"]}), ("withExec", {"args": ["e"], "useEntrypoint": True}), "stdout"], "e\n"),
        ([("withEnvVariable", {"name": "A", "value": "x"}), ("withExec", {"args": ["echo", "$A"], "expand": True}), "stdout"], "x\n"),
        ([("withUser", {"name": "app"}), ("withExec", {"args": ["id", "-un"]}), "stdout"], "app\n"),
        ([("withWorkdir", {"path": "/new"}), ("withExec", {"args": ["pwd"]}), "stdout"], "/new\n"),
        ([("withVolatileVariable", {"name": "V", "value": "1"}), sh("echo $V"), "stdout"], "1\n"),
        ([sh("echo x > /f"), sh("cat /f"), "stdout"], "x\n"),
        ([("withExec", {"args": ["sh", "-c", "echo $$"], "noInit": True}), "stdout"], "1\n"),
        ([("withMountedTemp", {"path": "/t", "size": 65536}), sh("df -k /t | tail -1 | awk '{print $2}'"), "stdout"], "64\n"),
        ([sh("mkdir /d; echo y > /d/f"), ("directory", {"path": "/d"}), ("file", {"path": "f"}), "contents"], "y\n"),
    ],
)
def test_runs(shared_session: Session, box: Steps, steps: list[Step], value: Any) -> None:
    assert shared_session.value(*box, *steps) == value


@pytest.mark.parametrize(
    ("steps", "code", "stderr"),
    [
        ([sh("echo why >&2; exit 4")], 4, "why"),
        ([("withExec", {"args": ["nope"]})], 1, 'exec: "nope": executable file not found in $PATH'),
        ([sh("kill -9 $$")], 137, ""),
        ([("withUser", {"name": "ghost"}), sh("true")], -1, ""),
        ([("withExec", {"args": ["cat"], "redirectStdin": "/no"})], -1, ""),
        ([sh("exit 0", expect=Enum("FAILURE"))], 0, ""),
    ],
)
def test_errors_are_those_of_commands(shared_session: Session, box: Steps, steps: list[Step], code: int, stderr: str) -> None:
    with pytest.raises(Failed) as caught:
        shared_session.value(*box, *steps, "sync")
    found = caught.value.extensions
    assert (found["_type"], found["exitCode"], found["stderr"]) == ("EXEC_ERROR", code, stderr)
    assert isinstance(found["cmd"], list)


def test_long_output_of_an_error_is_cut_at_its_beginning(shared_session: Session, box: Steps) -> None:
    with pytest.raises(Failed) as caught:
        shared_session.value(*box, sh("seq 1 100000; exit 1"), "sync")
    out = caught.value.extensions["stdout"]
    assert out.startswith("[omitting ")
    assert out.endswith("\n100000")
    assert len(out) < 110_000


def test_mounts_of_every_kind_at_once(shared_session: Session, box: Steps) -> None:
    value = shared_session.value
    source = value("directory", ("withNewFile", {"path": "sub/f", "contents": "dir "}), ("directory", {"path": "sub"}), "id")
    file = value(("file", {"name": "f", "contents": "file "}), "id")
    volume = value(("cacheVolume", {"key": "all", "owner": ""}), "id")
    seed = value("directory", ("withNewFile", {"path": "f", "contents": "seed "}), "id")
    secret = value(("setSecret", {"name": "all-kinds", "plaintext": "hidden"}), "id")
    steps: Steps = (
        *box,
        ("withMountedDirectory", {"path": "/d", "source": source, "readOnly": True}),
        ("withMountedFile", {"path": "/x/f", "source": file}),
        ("withMountedCache", {"path": "/c", "cache": volume, "source": seed, "sharing": Enum("LOCKED"), "owner": "app"}),
        ("withMountedSecret", {"path": "/s", "source": secret, "mode": 0o444}),
        ("withMountedTemp", {"path": "/t"}),
        sh("cat /d/f /x/f /c/f /s; stat -c ' %a' /s; echo w > /x/f; echo > /t/f; echo > /d/f 2>/dev/null || echo refused"),
    )
    assert value(*steps, "stdout") == "dir file seed *** 444\nrefused\n"
    assert value(*steps, ("file", {"path": "/x/f"}), "contents") == "w\n"
    assert value(*steps, "rootfs", ("exists", {"path": "t"})) is False
    assert value(*steps, ("withoutMount", {"path": "/d"}), "mounts") == ["/x/f", "/c", "/t"]


def test_a_chain_too_long_for_one_mount(shared_session: Session, box: Steps) -> None:
    """More layers than are mounted one by one: runs of them are merged, and everything is still there."""
    steps: list[Step] = [("withNewFile", {"path": f"/many/{n}", "contents": str(n)}) for n in range(90)]
    script = "ls /many | wc -l; cat /many/0 /many/63 /many/89; rm /many/7; mkdir /many/new"
    assert shared_session.value(*box, *steps, sh(script), "stdout") == "90\n06389"
    entries = shared_session.value(*box, *steps, sh(script), ("directory", {"path": "/many"}), "entries")
    assert len(entries) == 90
    assert "7" not in entries
    assert "new/" in entries


def test_images_out_and_in(shared_session: Session, box: Steps) -> None:
    made: Steps = (*box, sh("echo 1 > /made; rm -r /home"), ("withLabel", {"name": "a", "value": "b"}))
    for options in (
        {},
        {"forcedCompression": Enum("Zstd")},
        {"forcedCompression": Enum("Uncompressed"), "mediaTypes": Enum("DockerMediaTypes")},
    ):
        tarball = shared_session.value(*made, ("asTarball", options) if options else "asTarball", "id")
        again: Steps = ("container", ("import", {"source": tarball}))
        assert shared_session.value(*again, ("label", {"name": "a"})) == "b"
        assert shared_session.value(*again, sh("cat /made; ls -d /home 2>/dev/null || echo gone"), "stdout") == "1\ngone\n"
