"""Secret values are where they are used and nowhere else: a canary for each use, looked for in all that a session leaves or shows."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from busybox_image import make_base
from guarded_host import GuardedHost, guarded_host
from otlp_receiver import OtlpReceiver
from pocket_session import IMAGE, PocketSession, session, sh
from registries import real_registry

USES = ("variable", "file", "build", "registry", "web", "token", "header", "plain", "signing")
CANARIES = {use: f"canary-{use}-7f3a9c51d2e84b06" for use in USES}
LOGINS = "user:$2b$05$abcdefghijklmnopqrstuurJpuKi2Ia/exeqc68atgZroQUWEHvd2\n"  # bcrypt of the registry's canary
DOCKERFILE = f"""FROM {IMAGE}
RUN --mount=type=secret,id=build cat /run/secrets/build && cat /run/secrets/build >&2 && [ $(wc -c < /run/secrets/build) = 29 ]
RUN --mount=type=secret,id=build,env=BUILD [ "${{#BUILD}}" = 29 ] && echo $BUILD
"""


def traces(value: str) -> set[bytes]:
    """Give the forms in which a value may lie about: as it is, backwards, in hex, in base64 wherever it begins."""
    raw = value.encode()
    found = {raw, raw[::-1], raw.hex().encode(), raw.decode().encode("utf-16-le")}
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + raw + b"xx")
        found.add(encoded[4:-8])
    return found


NEEDLES = {use: traces(value) for use, value in CANARIES.items()}


def finds(data: bytes) -> set[str]:
    """Name the canaries in some bytes, packed or not."""
    if data[:2] == b"\x1f\x8b":
        with contextlib.suppress(OSError, EOFError, zlib.error):
            data += gzip.decompress(data)
    return {use for use, needles in NEEDLES.items() if any(n in data for n in needles)}


@dataclass(slots=True)
class Watch:
    """Looks at the arguments of all processes of the machine until it is told to stop."""

    found: set[str] = field(default_factory=set)
    looks: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._ended.wait(0.003):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.found |= finds(place.read_bytes())
                except OSError:
                    continue
            self.looks += 1

    def end(self) -> None:
        self._ended.set()


@dataclass(slots=True)
class Left:
    """What a session showed and left behind."""

    cache: Path
    answers: list[str]
    log: str
    spans: bytes
    watch: Watch
    shown: list[str]


def _uses(s: PocketSession, host: GuardedHost, place: Path) -> Iterator[str]:
    """Use every canary, with success and with failure; give what the session answered."""
    ids = {use: s.ok("query($v:String!){setSecret(name:%s,plaintext:$v){id}}" % json.dumps(use), "setSecret", "id", v=CANARIES[use])  # noqa: UP031 - braces
           for use in USES}  # fmt: skip
    base = f'container{{from(address:"{IMAGE}"){{'
    use = f'withSecretVariable(name:"T",secret:"{ids["variable"]}"){{withMountedSecret(path:"/s/f",source:"{ids["file"]}"){{%s}}}}}}}}'
    show = "echo $T; cat /s/f; echo $T >&2; printf %s $T | cut -c1-9; env > /dev/null; ls -la /s"
    context = place / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    built = f'host{{directory(path:"{context}"){{dockerBuild(secrets:["{ids["build"]}"]){{stdout stderr rootfs{{digest}}}}}}}}'
    login = f'withRegistryAuth(address:"{host.address}",username:"user",secret:"{ids["registry"]}")'
    auth = f'container{{{login}{{from(address:"{host.address}/x:1"){{id}}}}}}'
    git = f'git(url:"http://{host.address}/%s",%s){{branch(name:"main"){{tree{{entries}}}}}}'
    for text in (
        base + use % (sh(show) + "{stdout stderr}"),
        base + use % (sh(show + "; exit 3") + "{stdout}"),
        base + use % ('withExec(args:["sh","-c","echo $T"],redirectStdout:"/out"){file(path:"/out"){contents}}'),
        base + use % ('withExec(args:["nope"]){stdout}'),
        base + use % ("asTarball{digest}"),
        base + use % ('withNewFile(path:"$T",contents:"",expand:true){id}'),
        built, auth,
        f'http(url:"http://{host.address}/file",authHeader:"{ids["web"]}"){{contents}}',
        f'http(url:"http://{host.address}/none",authHeader:"{ids["web"]}"){{contents}}',
        git % ("repo.git", f'httpAuthToken:"{ids["token"]}"'),
        git % ("repo.git", f'httpAuthHeader:"{ids["header"]}"'),
        git % ("none.git", f'httpAuthToken:"{ids["token"]}"'),
        f'a:secret(uri:"env://CANARY_PLAIN"){{name uri}} b:secret(uri:"file://{place}/nope"){{plaintext}}',
        'secret(uri:"cmd://echo $CANARY_PLAIN; echo $CANARY_PLAIN >&2; exit 1"){plaintext}',
        'setSecret(name:"x",plaintext:5){id}',
    ):  # fmt: skip
        yield json.dumps(s.query("{" + text + "}"))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    place = tmp_path_factory.mktemp("secrets")
    (place / "web").mkdir()
    watch = Watch()
    watcher = threading.Thread(target=watch.run)
    env = {
        "CANARY_PLAIN": CANARIES["plain"], "POCKET_CACHE_SIGNING_KEY": CANARIES["signing"], "POCKET_CACHE_TO": "127.0.0.1:1/cache",
    }  # fmt: skip
    with guarded_host(place / "web") as host, OtlpReceiver() as receiver:
        watcher.start()
        try:
            with session(place / "cache", place / "log", image=make_base(place / "base.tar"), env={**env, **receiver.env()}) as s:
                answers = list(_uses(s, host, place))
        finally:
            watch.end()
            watcher.join()
        sent = b"".join(m.SerializeToString() for m in (*receiver.spans, *receiver.logs))
        yield Left(place / "cache", answers, (place / "log").read_text(), sent, watch, host.shown)


def test_the_search_finds_what_it_looks_for() -> None:
    value = CANARIES["token"]
    for hidden in (value.encode(), base64.b64encode(f"x-access-token:{value}".encode()), gzip.compress(b"a" + value.encode())):
        assert finds(b"..." + hidden if hidden[:1] != b"\x1f" else hidden) == {"token"}
    assert not finds(b"canary-token")


def test_every_secret_was_used(left: Left) -> None:
    """Else finding nothing would mean nothing."""
    said, failed, redirected, missing, packed, expanded, built, registry, web, none, token, header, no_repo, given, command, wrong = (
        left.answers
    )
    assert '"stdout": "***\\n***canary-va' in said, "a part of a value is no secret"
    assert '"exitCode": 3' in failed
    assert '"contents": "***\\n"' in redirected
    assert "executable file not found" in missing
    assert "sha256" in packed
    assert "secret env variable" in expanded
    assert "***" in built
    assert "sha256" in built
    assert "not found" in registry
    assert "from the web" in web
    assert "404" in none
    assert '"readme"' in token
    assert '"readme"' in header
    assert "git" in no_repo
    assert "failed to read secret file" in given
    assert "exit status 1" in command
    assert "String cannot represent" in wrong
    shown = "\n".join(left.shown)
    for use in ("web", "header"):
        assert CANARIES[use] in shown
    for use, user in (("registry", "user"), ("token", "x-access-token")):
        assert base64.b64encode(f"{user}:{CANARIES[use]}".encode()).decode() in shown
    assert left.watch.looks > 20


def _found_under(cache: Path) -> tuple[set[tuple[str, str]], int]:
    """Give the canaries in names, links and files below a directory, and how many files were read."""
    found, files = set(), 0
    for folder, names, entries in os.walk(cache):
        for name in (*names, *entries):
            path = Path(folder, name)
            found |= {(str(path), use) for use in finds(os.fsencode(name))}
            if path.is_symlink():
                found |= {(str(path), use) for use in finds(os.fsencode(path.readlink()))}
            elif path.is_file():
                files += 1
                found |= {(str(path), use) for use in finds(path.read_bytes())}
    return found, files


def test_no_secret_is_in_the_cache(left: Left) -> None:
    found, files = _found_under(left.cache)
    assert not found
    assert files > 20


@pytest.mark.parametrize("what", ["answers", "log", "spans"])
def test_no_secret_is_told(left: Left, what: str) -> None:
    told = getattr(left, what)
    data = told if isinstance(told, bytes) else "\n".join(told).encode() if isinstance(told, list) else told.encode()
    assert data
    assert not finds(data)


def test_no_secret_is_an_argument_of_a_process(left: Left) -> None:
    assert not left.watch.found


def test_the_password_of_a_registry_that_takes_it_is_nowhere(tmp_path: Path) -> None:
    """An image is pushed, and pulled by another session whose cache is empty."""
    with real_registry(tmp_path / "registry", htpasswd=LOGINS) as address, OtlpReceiver() as receiver:
        for name, work in (
            ("push", f'from(address:"{IMAGE}"){{withNewFile(path:"/made",contents:"x"){{publish(address:"{address}/x:1")}}}}'),
            ("pull", f'from(address:"{address}/x:1"){{file(path:"/made"){{contents}}}}'),
        ):
            cache, log = tmp_path / name / "cache", tmp_path / name / "log"
            log.parent.mkdir()
            with session(cache, log, image=make_base(tmp_path / "base.tar"), env=receiver.env()) as s:
                made = s.ok('query($v:String!){setSecret(name:"p",plaintext:$v){id}}', "setSecret", "id", v=CANARIES["registry"])
                login = f'withRegistryAuth(address:"{address}",username:"user",secret:"{made}")'
                answer = s.query(f"{{container{{{login}{{{work}}}}}}}")
                refused = s.query(f'{{container{{from(address:"{address}/y:1"){{id}}}}}}')
            assert "sha256:" in json.dumps(answer) or '"contents": "x"' in json.dumps(answer)
            assert "errors" in refused
            assert not finds(json.dumps([answer, refused]).encode() + log.read_bytes())
            found, files = _found_under(cache)
            assert not found
            assert files > 5
        assert not finds(b"".join(m.SerializeToString() for m in (*receiver.spans, *receiver.logs)))
