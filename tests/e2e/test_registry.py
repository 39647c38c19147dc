"""Pushing to a real registry, Debian's docker-registry on loopback, and reading back what it holds."""

import contextlib
import hashlib
import http.client
import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from accounts import Account, Checkout
from processes import wait_until

KINDS = ("oci.image.manifest.v1", "oci.image.index.v1", "docker.distribution.manifest.v2")
TYPES = ", ".join(f"application/vnd.{kind}+json" for kind in KINDS)
CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry that listens on loopback."""

    port: int

    def ask(self, path: str, *, method: str = "GET") -> tuple[int, bytes]:
        """Send one request; give the status and what was answered."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, f"/v2/{path}", headers={"Accept": TYPES})
            response = connection.getresponse()
            return response.status, response.read()

    def answers(self) -> bool:
        """Say whether it is up."""
        try:
            return self.ask("")[0] == 200
        except OSError:
            return False


@pytest.fixture
def registry(account: Account) -> Iterator[Registry]:
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed (Debian package docker-registry)")
    place = account.directory("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (place / "config.yml").write_text(CONFIG.format(root=place / "data", port=port))
    process = account.start(program, "serve", str(place / "config.yml"), cwd=place)
    registry = Registry(port)
    assert wait_until(process, registry.answers), process.communicate()[0]
    yield registry
    process.kill()
    process.communicate()
    shutil.rmtree(place)


def pushed(checkout: Checkout) -> str:
    """Give the digest of the image that the newest run was about."""
    (build,) = (stage for stage in checkout.record()["stages"] if stage["name"] == "build")
    digest: str = build["result"]["digest"]
    return digest


def test_pushed_image_comes_back_byte_for_byte(checkout: Checkout, registry: Registry) -> None:
    checkout.configure("push", "target", f"127.0.0.1:{registry.port}/digits-vlm")
    finished = checkout.ci("run")
    assert finished.code == 0, finished.output
    assert checkout.ran() == {"scan", "push"}  # the configuration is a file of the change
    image = pushed(checkout)
    status, manifest = registry.ask(f"digits-vlm/manifests/{image}")
    assert status == 200
    assert "sha256:" + hashlib.sha256(manifest).hexdigest() == image
    document = json.loads(manifest)
    for part in (document["config"], *document["layers"]):
        status, content = registry.ask(f"digits-vlm/blobs/{part['digest']}")
        assert (status, len(content)) == (200, part["size"])
        assert "sha256:" + hashlib.sha256(content).hexdigest() == part["digest"]


def test_push_is_reused_only_while_the_registry_holds_the_digest(checkout: Checkout, registry: Registry) -> None:
    checkout.configure("push", "target", f"127.0.0.1:{registry.port}/digits-vlm")
    assert checkout.ci("run").code == 0
    assert checkout.ci("run").code == 0
    assert checkout.ran() == set()
    image = pushed(checkout)
    assert registry.ask(f"digits-vlm/manifests/{image}", method="DELETE")[0] == 202
    assert checkout.ci("run").code == 0
    assert checkout.ran() == {"push"}
