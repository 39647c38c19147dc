"""The host base is a root file system in which Python works, with nothing of this machine's people in it."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci.base.hostpython import HostPython
from ci.base.hostroot import HostRoot, host_root

IMPORTS = "import ssl, sqlite3, ctypes, lzma, bz2, zlib, hashlib, asyncio, venv, xml.parsers.expat"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(cache: Path) -> HostRoot:
    return host_root(cache)


@pytest.fixture(scope="module")
def root(made: HostRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("root")
    with tarfile.open(made.archive) as archive:
        index = json.loads(blob(archive, "index.json"))
        manifest = json.loads(blob(archive, path_of(index["manifests"][0]["digest"])))
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=archive.extractfile(path_of(layer["digest"]))) as content:
                content.extraction_filter = lambda member, _path: member  # by attribute: Python before 3.11.4 has no argument for it
                content.extractall(place, numeric_owner=True)
    yield place
    shutil.rmtree(place)


def blob(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None
    return member.read()


def path_of(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def inside(root: Path, *argv: str) -> str:
    """Run a program in the root with nothing of this process's environment."""
    chroot = ["chroot", str(root)] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "chroot", str(root)]
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    done = subprocess.run([*chroot, *argv], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_and_what_it_links_to_work(root: Path) -> None:
    said = inside(root, "python3", "-c", f"{IMPORTS}; import sys; print(sys.version_info[:3], sys.prefix, asyncio.__cached__)")
    version, _, rest = said.partition(") ")
    assert version == str(sys.version_info[:3])[:-1]
    prefix, cached = rest.split()
    assert prefix == HostPython.running().image_prefix
    assert (root / cached.lstrip("/")).is_file()


def test_pip_can_make_and_fill_a_virtual_environment(root: Path) -> None:
    inside(root, "python3", "-m", "venv", "--without-pip", "/tmp/venv")
    said = inside(root, "python3", "-m", "pip", "--python", "/tmp/venv/bin/python3", "--version")
    assert said.startswith("pip ")


def test_shell_and_tools_work(root: Path) -> None:
    assert inside(root, "sh", "-c", "printf 'b\\na\\n' | sort | head -n1 | sed s/a/ok/ && test -d /tmp && ls / >/dev/null") == "ok\n"


def test_nothing_tells_whose_machine_it_was(root: Path) -> None:
    """Neither a path nor a file's content names the directory that a relocated interpreter came from."""
    prefix = str(HostPython.running().prefix)
    if prefix == "/usr":
        pytest.skip("a system Python keeps its place")
    holders = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and prefix.encode() in path.read_bytes()]
    assert holders == []
    assert not (root / prefix.lstrip("/")).exists()


def test_ca_bundle_is_the_public_one(root: Path) -> None:
    import certifi

    assert (root / "etc/ssl/certs/ca-certificates.crt").read_bytes() == Path(certifi.where()).read_bytes()


def test_labels_name_python_and_glibc(made: HostRoot) -> None:
    assert made.labels["weighbridge.base.kind"] == "host"
    assert made.labels["weighbridge.base.python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert made.labels["weighbridge.base.glibc"].count(".") == 1


def test_second_time_it_is_found_not_made(made: HostRoot, cache: Path) -> None:
    again = host_root(cache)
    assert again.reused
    assert (again.archive, again.digest) == (made.archive, made.digest)


def test_another_cache_gets_the_same_bytes(made: HostRoot, tmp_path: Path) -> None:
    assert host_root(tmp_path).digest == made.digest


def test_a_damaged_archive_is_made_again(made: HostRoot, tmp_path: Path) -> None:
    shutil.copytree(made.archive.parent, tmp_path / "bases")
    (archive,) = (tmp_path / "bases").glob("*.tar")
    archive.write_bytes(archive.read_bytes()[:-1])
    again = host_root(tmp_path)
    assert not again.reused
    assert again.digest == made.digest
