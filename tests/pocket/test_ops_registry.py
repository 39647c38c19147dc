"""Images from and to a registry through a session, and archives that stand in for references."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import Api
from registries import real_registry
from sessions import Enum, Failed, Session, Step

from pocket.ops.registry import ARCHIVES, stand_ins

Steps = tuple[Step, ...]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def sh(script: str) -> Step:
    """Give the step that runs a shell script."""
    return ("withExec", {"args": ["sh", "-c", script]})


def test_what_was_pushed_is_pulled_and_runs(registry: str, tmp_path: Path, base_archive: Path) -> None:
    with Session(tmp_path / "one") as session:
        made = (*session.base(base_archive), sh("echo pushed > /made"), ("withLabel", {"name": "a", "value": "b"}))
        reference = session.value(*made, ("publish", {"address": f"{registry}/images/one:1"}))
        assert reference.startswith(f"{registry}/images/one:1@sha256:")
        assert session.value(*made, ("publish", {"address": f"{registry}/images/one:2"})).partition("@")[2] == reference.partition("@")[2]
    with Session(tmp_path / "two") as session:
        pulled: Steps = ("container", ("from", {"address": f"{registry}/images/one:1"}))
        assert session.value(*pulled, "imageRef") == reference
        assert session.value(*pulled, ("label", {"name": "a"})) == "b"
        assert session.value(*pulled, sh("cat /made"), "stdout") == "pushed\n"
        again = session.value(*pulled, ("publish", {"address": f"{registry}/images/copy:1"}))
        assert again.partition("@")[2] == reference.partition("@")[2]


def test_a_pinned_image_that_the_cache_holds_needs_no_registry(tmp_path: Path, base_archive: Path) -> None:
    with real_registry(tmp_path / "registry") as host, Session(tmp_path / "cache") as session:
        reference = session.value(*session.base(base_archive), ("publish", {"address": f"{host}/pinned:1"}))
        session.value("container", ("from", {"address": reference}), "sync")
    with Session(tmp_path / "cache") as session:
        assert session.value("container", ("from", {"address": reference}), sh("echo offline"), "stdout") == "offline\n"
        with pytest.raises(Failed):
            session.value("container", ("from", {"address": f"{host}/pinned:1"}), "sync")


@pytest.mark.parametrize("how", ["pushed", "pulled"])
def test_what_a_registry_has_in_another_repository_is_not_sent_again(tmp_path: Path, base_archive: Path, how: str) -> None:
    with real_registry(tmp_path / "registry") as host:
        with Session(tmp_path / "one") as session:
            made = session.value(*session.base(base_archive), ("publish", {"address": f"{host}/team/base:1"}))
        known = tmp_path / ("one" if how == "pushed" else "two")
        with Session(known) as session:
            image = session.base(base_archive) if how == "pushed" else ("container", ("from", {"address": made}))
            session.value(*image, ("withLabel", {"name": "a", "value": "b"}), ("publish", {"address": f"{host}/team/app:1"}))
        log = (tmp_path / "registry/log").read_text()
    opened = [line for line in log.splitlines() if "POST /v2/team/app/blobs/uploads/" in line]
    mounted = [line for line in opened if "mount=sha256" in line and "from=team" in line and '" 201 ' in line]
    assert len(mounted) == 1, log
    assert len(opened) == 2, "the layer was mounted, and only the configuration sent"


def test_a_large_layer_is_on_its_way_while_it_is_packed(tmp_path: Path, base_archive: Path) -> None:
    with real_registry(tmp_path / "registry") as host:
        with Session(tmp_path / "one") as session:
            made: Steps = (*session.base(base_archive), sh("head -c 40000000 /dev/urandom > /weights && sha256sum /weights"))
            said = session.value(*made, "stdout")
            session.value(*made, ("publish", {"address": f"{host}/large:1"}))
        with Session(tmp_path / "two") as session:
            assert session.value("container", ("from", {"address": f"{host}/large:1"}), sh("sha256sum /weights"), "stdout") == said
        log = (tmp_path / "registry/log").read_text()
    sent = [line for line in log.splitlines() if '"PATCH /v2/large/blobs/uploads/' in line]
    assert len(sent) == 1, "once, in one piece, as nothing else is: smaller layers go with one PUT"
    opened = [line for line in log.splitlines() if '"POST /v2/large/blobs/uploads/' in line]
    assert len(opened) == 3, "two layers and the configuration"
    blobs = (path.read_bytes() for path in (tmp_path / "registry").rglob("data") if path.is_file() and path.stat().st_size < 4096)
    manifest = next(found for found in map(json.loads, filter(lambda data: data.startswith(b"{"), blobs)) if "layers" in found)
    kinds = [layer["mediaType"].rpartition(".")[2] for layer in manifest["layers"]]
    assert kinds[-1] == "tar", "what does not shrink is not compressed"


@pytest.mark.parametrize("compression", ["Gzip", "Zstd"])
def test_several_platforms_in_one_image_and_both_compressions(registry: str, tmp_path: Path, base_archive: Path, compression: str) -> None:
    if compression == "Zstd":
        pytest.importorskip("zstandard", reason="zstd needs the package zstandard")
    address = f"{registry}/images/many-{compression.lower()}:1"
    with Session(tmp_path / "one") as session:
        made: Steps = (*session.base(base_archive), sh("echo native > /who"))
        other = ("container", {"platform": "linux/riscv64"})
        variant = session.value(other, ("withNewFile", {"path": "/who", "contents": "other\n"}), "id")
        options = {"platformVariants": [variant], "forcedCompression": Enum(compression)}
        session.value(*made, ("publish", {"address": address, **options}))
    with Session(tmp_path / "two") as session:
        assert session.value("container", ("from", {"address": address}), sh("cat /who"), "stdout") == "native\n"
        pulled = (other, ("from", {"address": address}))
        assert session.value(*pulled, ("file", {"path": "/who"}), "contents") == "other\n"
        assert session.value(*pulled, "platform") == "linux/riscv64"
    accept = {"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"}

    def document(reference: str) -> dict[str, Any]:
        url = f"http://{registry}/v2/images/many-{compression.lower()}/manifests/{reference}"
        with urllib.request.urlopen(urllib.request.Request(url, headers=accept)) as response:
            found: dict[str, Any] = json.load(response)
        return found

    index = document("1")
    assert [m["platform"]["architecture"] for m in index["manifests"]][1:] == ["riscv64"]
    layers = [layer["mediaType"] for m in index["manifests"] for layer in document(m["digest"])["layers"]]
    assert layers
    assert all(kind.endswith(f"+{compression.lower()}") for kind in layers)


def test_a_registry_without_the_image_says_so(registry: str, shared_session: Session) -> None:
    with pytest.raises(Failed, match="nothing-here"):
        shared_session.value("container", ("from", {"address": f"{registry}/nothing-here:1"}), "sync")


def test_an_archive_stands_in_for_a_reference(tmp_path: Path, base_archive: Path) -> None:
    with Session(tmp_path / "cache", env={ARCHIVES: f"alpine:3.20.2={base_archive}, other={tmp_path}/none.tar"}) as session:
        image: Steps = ("container", ("from", {"address": "alpine:3.20.2"}))
        assert session.value(*image, sh("cat /etc/base-release"), "stdout") == "conformance 1\n"
        assert session.value(*image, "imageRef").startswith("docker.io/library/alpine:3.20.2@sha256:")
        with pytest.raises(Failed, match=r"cannot read .*none\.tar for docker\.io/library/other:latest"):
            session.value("container", ("from", {"address": "other"}), "sync")


@pytest.mark.parametrize("value", ["alpine", "=x", "alpine="])
async def test_a_malformed_stand_in_is_refused_with_an_example(api: Api, value: str) -> None:
    api.engine.environ = {ARCHIVES: value}
    with pytest.raises(Exception, match=r"is not reference=path|reference"):
        stand_ins(api.engine)


async def test_no_stand_ins(api: Api) -> None:
    api.engine.environ = {}
    assert stand_ins(api.engine) == {}


async def test_logins_are_kept_by_host(api: Api) -> None:
    secret = await api(("setSecret", {"name": "pw", "plaintext": "p"}), "id")
    for address, host in (
        ("example.com:5000/a/b", "example.com:5000"),
        ("https://r.example/x", "r.example"),
        ("library/x", "docker.io"),
        ("localhost/x", "localhost"),
    ):
        login: Step = ("withRegistryAuth", {"address": address, "username": "u", "secret": secret})
        await api("container", login, "user")
        assert api.engine.registry_auth.pop(host) == ("u", b"p")
        await api("container", login, ("withLabel", {"name": "a", "value": host}), ("withoutRegistryAuth", {"address": address}), "user")
        assert api.engine.registry_auth == {}
