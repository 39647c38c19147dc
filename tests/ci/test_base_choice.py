"""Which base is used, and what is said about the ones that are not."""

import socket
from pathlib import Path

import pytest

from ci.base import choice
from ci.base.errors import BaseError
from ci.base.tree import Tree, write_oci_archive
from ci.config.model import BaseConfig
from ci.exits import Exit


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_unreachable_registry_falls_back_and_says_so(cache: Path) -> None:
    image = f"127.0.0.1:{closed_port()}/library/python:3.11-slim"
    base = await choice.resolve(BaseConfig(image=image), root=Path(), cache=cache)
    assert (base.kind, base.wanted) == ("host", image)
    assert base.archive is not None
    assert base.archive.is_file()
    assert base.tried[0].startswith(f"{image}: no route")
    assert base.labels["weighbridge.base.kind"] == "host"
    assert base.labels["weighbridge.base.wanted"] == image
    assert "no route" in base.labels["weighbridge.base.tried"]


async def test_no_fallback_is_an_error_that_says_what_to_do(cache: Path) -> None:
    config = BaseConfig(image=f"127.0.0.1:{closed_port()}/python:3", fallback="none")
    with pytest.raises(BaseError) as caught:
        await choice.resolve(config, root=Path(), cache=cache)
    assert caught.value.exit == Exit.INFRA
    assert "base.fallback" in caught.value.hint


async def test_host_by_name_tries_nothing(cache: Path) -> None:
    base = await choice.resolve(BaseConfig(image="host"), root=Path(), cache=cache)
    assert (base.kind, base.tried) == ("host", ())


async def test_archive_is_used_by_its_digest(tmp_path: Path) -> None:
    tree = Tree()
    tree.file("/etc/file", b"content")
    digest = write_oci_archive(tree, tmp_path / "base.tar", config={}, architecture="amd64", labels={})
    base = await choice.resolve(BaseConfig(image="oci-archive:base.tar"), root=tmp_path, cache=tmp_path)
    assert (base.kind, base.identity, base.archive) == ("archive", digest, tmp_path / "base.tar")


@pytest.mark.parametrize("image", ["oci-archive:absent.tar", "oci-archive:not-a-tar", "python:no tag"])
async def test_a_base_that_cannot_be_meant_is_a_usage_error(image: str, tmp_path: Path) -> None:
    (tmp_path / "not-a-tar").write_text("text")
    with pytest.raises(BaseError) as caught:
        await choice.resolve(BaseConfig(image=image), root=tmp_path, cache=tmp_path)
    assert caught.value.exit == Exit.USAGE
