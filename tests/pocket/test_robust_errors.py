"""Every error that a user can cause: what failed, and one sentence that says what to do, in what the SDK shows.

Where the Dagger engine has words of its own, the message is those words alone, and the advice is in `extensions.hint`. What a full or
read-only disk says is in test_robust_space.py, what registries do beyond refusing in test_oci_transport.py.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from busybox_image import make_base
from pocket_session import BASE, ROOT, PocketSession, chain, session, sh
from refusing_registry import refusing_registry

REFUSALS = {
    "s401": ("wants a login", "log in (docker login"),
    "s403": ("does not allow it to an anonymous client", "ask the owner of the repository for the permission"),
    "s404": ("not found", "check the spelling of name and tag"),
    "s429": ("limits the number of requests", "wait a while, or log in"),
    "s500": ("answered 500", "try again later"),
    "s503": ("answered 503", "try again later"),
    "notjson": ("not JSON", "the content is damaged or is no manifest"),
    "wrongdigest": ("has the digest", "fetch it again"),
    "empty": ("no match for platform", "ask for one of these platforms"),
    "old": ("", " — "),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("image") / "base.tar")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Path:
    """Give a directory with the things that errors are about."""
    place = tmp_path_factory.mktemp("errors")
    (place / "garbage.tar").write_bytes(b"this is no archive" * 100)
    (place / "cut.tar").write_bytes(image.read_bytes()[:400_000])
    with tarfile.open(place / "lacking.tar", "w") as out, tarfile.open(image) as whole:
        for member in whole.getmembers():
            if not member.name.startswith("blobs/"):
                out.addfile(member, whole.extractfile(member))
    with tarfile.open(place / "damaged.tar", "w") as out, tarfile.open(image) as whole:
        for member in whole.getmembers():
            data = whole.extractfile(member).read()  # type: ignore[union-attr]  # files only
            out.addfile(member, io.BytesIO(data[:-8] + b"manipule" if member.size > 100_000 else data))
    (place / "context").mkdir()
    return place


@pytest.fixture(scope="module")
def asked(place: Path, image: Path) -> Iterator[PocketSession]:
    """Hold one session for all errors; none of them is a bug, so none leaves a traceback."""
    archives = f"base:1={image},gone:1={place}/gone.tar"
    with session(place / "cache", place / "log", env={"POCKET_IMAGE_ARCHIVES": archives}) as running:
        yield running
        said = running.ok(chain(BASE, sh("echo still here"), "stdout"))
        assert said["container"]["from"]["withExec"]["stdout"] == "still here\n"


def tells(asked: PocketSession, text: str, what: str, advice: str) -> None:
    """Ask, and find both sentences: the second one beside the message where that is in the words of Dagger's engine."""
    error = asked.error("{" + text + "}")
    message, hint = error["message"], error.get("extensions", {}).get("hint", "")
    assert what in message
    assert advice in f"{message} {hint}"
    assert "\n" not in message


# --- registries
@pytest.fixture(scope="module")
def refusals(asked: PocketSession) -> dict[str, str]:
    """Ask for all images at once, as some refusals are waited out; give each one's message."""
    with refusing_registry() as host:
        found: dict[str, str] = {}
        pulls = " ".join(f'{name}:container{{from(address:"{host}/{name}:1"){{id}}}}' for name in REFUSALS)
        pushes = " ".join(f'push{name}:{BASE}{{publish(address:"{host}/{name}:1")}}}}' for name in ("s401", "s403"))
        for error in asked.query("{" + pulls + pushes + "}")["errors"]:
            found[error["path"][0]] = error["message"]
            assert error["extensions"]["hint"] in error["message"]
    return found


@pytest.mark.parametrize("name", REFUSALS)
def test_a_registry_that_refuses(refusals: dict[str, str], name: str) -> None:
    what, advice = REFUSALS[name]
    assert what in refusals[name]
    assert advice in refusals[name]


@pytest.mark.parametrize("name", ["s401", "s403"])
def test_a_registry_that_takes_nothing(refusals: dict[str, str], name: str) -> None:
    assert "cannot push" in refusals["push" + name]
    assert REFUSALS[name][1] in refusals["push" + name]


# --- images and archives
@pytest.mark.parametrize(("address", "what", "advice"), [
    ("Not A Ref!", "'Not A Ref!': invalid reference format", " — "),
    ("a@sha256:12", "invalid reference format", "a digest looks like sha256:<64 hex digits>"),
    ("127.0.0.1:1/UP", "'127.0.0.1:1/UP': invalid reference format", "repository name (UP) must be lowercase"),
    ("127.0.0.1:1/x:1", "cannot reach 127.0.0.1:1: connection refused", "check host and port, and that the registry runs"),
    ("gone:1", "cannot read", "correct the path, or leave it out"),
])  # fmt: skip
def test_an_image_that_cannot_be_had(asked: PocketSession, address: str, what: str, advice: str) -> None:
    message = asked.error(f'{{container{{from(address:"{address}"){{id}}}}}}')["message"]
    assert what in message
    assert advice in message


@pytest.mark.parametrize(("name", "what", "advice"), [
    ("garbage", "this is no image archive, or a damaged one", "give an OCI archive or the output of docker save"),
    ("cut", "this is no image archive, or a damaged one", "check that it is whole"),
    ("lacking", "is missing in", "the image is incomplete; fetch it again"),
    ("damaged", "has the digest sha256:", "the content was damaged or replaced"),
])  # fmt: skip
def test_a_broken_archive(asked: PocketSession, place: Path, name: str, what: str, advice: str) -> None:
    ident = asked.ok(f'{{host{{file(path:"{place}/{name}.tar"){{id}}}}}}', "host", "file", "id")
    tells(asked, f'container{{import(source:"{ident}"){{id}}}}', what, advice)


def test_stand_ins_that_are_named_wrongly(tmp_path: Path) -> None:
    with session(tmp_path / "cache", tmp_path / "log", env={"POCKET_IMAGE_ARCHIVES": "alpine"}) as s:
        tells(s, 'container{from(address:"alpine:3"){id}}', "'alpine' is not reference=path", "for example alpine:3.20.2=/")


def test_an_archive_without_the_platform(asked: PocketSession, image: Path) -> None:
    error = asked.error(f'{{container(platform:"linux/s390x"){{from(address:"{image}"){{id}}}}}}')
    assert "invalid reference format" in error["message"]
    tells(asked, 'container(platform:"linux"){id}', "invalid platform 'linux'", "write os/architecture[/variant], such as linux/amd64")


# --- commands, secrets and devices
@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
@pytest.mark.parametrize("field", ["experimentalWithAllGPUs", 'experimentalWithGPU(devices:["0"])'])
def test_a_gpu_that_is_missing(asked: PocketSession, field: str) -> None:
    text = chain(BASE, field, sh("true"), "stdout")[1:-1]
    tells(asked, text, "no NVIDIA GPU on this machine", "run on a machine with a GPU, or leave the GPU out")


@pytest.mark.parametrize(("text", "what", "advice"), [
    ('secret(uri:"env://NOT_SET_ANYWHERE"){plaintext}', "secret env var not found", "set it in the environment"),
    ('secret(uri:"file:///nowhere"){plaintext}', "failed to read secret file", "check the path"),
    ('secret(uri:"cmd://exit 3"){plaintext}', 'failed to run secret command "exit 3": exit status 3', "run it by hand"),
    ('secret(uri:"vault://x"){plaintext}', "not supported by pocket: secret provider 'vault'", "use a Dagger engine"),
    ("llm{id}", "not supported by pocket: Query.llm", "use a Dagger engine"),
    ('host{unixSocket(path:"/nowhere"){id}}', "/nowhere is not a socket", "check the path"),
    ('http(url:"ftp://x"){id}', "is not an http or https address", "write http://"),
    ('http(url:"http://127.0.0.1:1/x"){id}', "http: cannot fetch http://127.0.0.1:1/x", "check the network and the address"),
    ('git(url:"file:///nowhere"){branch(name:"main"){commit}}', "git ls-remote failed", "check the address, the ref and the credentials"),
    ("directory{asGit{head{commit}}}", "git error: not a git repository", "give the directory that holds .git"),
])  # fmt: skip
def test_things_that_are_not_there(asked: PocketSession, text: str, what: str, advice: str) -> None:
    tells(asked, text, what, advice)


def test_git_that_is_missing(tmp_path: Path, image: Path) -> None:
    with session(tmp_path / "cache", tmp_path / "log", image=image, env={"PATH": str(tmp_path)}) as s:
        tells(s, 'git(url:"file:///x"){branch(name:"main"){commit}}', "git is not installed", "install git")
        assert s.ok(chain(BASE, sh("true"), "exitCode"))


def test_a_ref_that_is_missing(asked: PocketSession, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    text = f'git(url:"file://{tmp_path}"){{branch(name:"nope"){{commit}}}}'
    tells(asked, text, 'repository does not contain ref "refs/heads/nope"', "git ls-remote")


@pytest.mark.parametrize(("text", "message"), [
    ('host{directory(path:"/nowhere/at/all"){id}}', "/nowhere/at/all: no such file or directory"),
    ('host{file(path:"/nowhere/at/all"){id}}', "/nowhere/at/all: no such file or directory"),
    ('directory{file(path:"nope"){id}}', "nope: no such file or directory"),
    (chain(BASE, 'withUser(name:"ghost")', sh("true"), "stdout")[1:-1], "unable to find user ghost: no matching entries in passwd file"),
    (chain(BASE, 'withNewFile(path:"/f",contents:"",owner:"ghost")', "stdout")[1:-1], "no command has been set"),
    (chain(BASE, 'withNewFile(path:"/f",contents:"",owner:"ghost")', 'file(path:"/f"){size}')[1:-1], "no such user: ghost"),
    (chain("container", "withExec(args:[])", "stdout")[1:-1], "no command has been set"),
    ("container{asService{start}}", "no service command has been set"),
])  # fmt: skip
def test_what_dagger_has_words_for(asked: PocketSession, text: str, message: str) -> None:
    """These are the engine's own messages, which programs may look for; they are not changed."""
    assert asked.error("{" + text + "}")["message"].endswith(message)


# --- Dockerfiles
@pytest.mark.parametrize(("dockerfile", "arguments", "what", "hint"), [
    ("FROM base:1\nBOGUS x\n", "", "line 2: unknown instruction: BOGUS", ""),
    ("FROM base:1\nCOPY nope /\n", "", '"/nope": not found', "check the path, and what .dockerignore leaves out"),
    ("FROM base:1\nRUN --mount=type=secret,id=s,required=true true\n", "", "secret s: not found", "pass it in dockerBuild(secrets: …)"),
    ("FROM base:1 AS one\n", '(target:"two")', 'target stage "two" could not be found', "stages: one"),
    ("FROM base:1\nADD https://x/y /\n", "", "not supported by pocket: ADD https://x/y — fetch it with http() or git() and COPY it", ""),
    ("FROM base:1\nRUN --mount=type=ssh true\n", "", "not supported by pocket: --mount=type=ssh — use a Dagger engine", ""),
    ("", "", "file with no instructions", ""),
    (None, "", "failed to read dockerfile: Dockerfile: no such file or directory", ""),
])  # fmt: skip
def test_a_dockerfile_that_cannot_be_built(asked: PocketSession, dockerfile: str | None, arguments: str, what: str, hint: str) -> None:
    written = "" if dockerfile is None else '{withNewFile(path:"Dockerfile",contents:$d)'
    text = f"query($d:String!){{directory{written}{{dockerBuild{arguments}{{rootfs{{digest}}}}}}}}{'}' if written else ''}"
    error = asked.error(text, d=dockerfile or "")
    assert what in error["message"]
    assert hint in error.get("extensions", {}).get("hint", "")


# --- before there is a session
def run(*words: str, env: dict[str, str], prefix: tuple[str, ...] = ()) -> str:
    """Start a session that cannot be; give what it says. There is one line of what and one of advice, and nothing on stdout."""
    command = [*prefix, sys.executable, "-m", "pocket", "session", *words]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run(command, env=settings, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_working_directory_that_is_missing(tmp_path: Path) -> None:
    assert "the working directory /nowhere does not exist" in run("--workdir", "/nowhere", env={"POCKET_CACHE": str(tmp_path)})


def test_a_tier_that_is_none(tmp_path: Path) -> None:
    said = run(env={"POCKET_CACHE": str(tmp_path), "POCKET_TIER": "magic"})
    assert "POCKET_TIER is 'magic', which is no tier" in said
    assert "use one of: root, subuid, single-uid" in said


def test_a_machine_without_user_namespaces(tmp_path: Path) -> None:
    """In a user namespace that allows no further one, as somebody without capabilities."""
    drop = "setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all"
    script = f'echo 0 > /proc/sys/user/max_user_namespaces && exec {drop} "$@"'
    said = run(env={"POCKET_CACHE": str(tmp_path)}, prefix=("unshare", "-Ur", "sh", "-c", script, "sh"))
    what, advice = said.strip().splitlines()
    assert what.startswith("pocket: no further user namespace is allowed")
    assert advice == "  sysctl -w user.max_user_namespaces=15000 (as root)"
