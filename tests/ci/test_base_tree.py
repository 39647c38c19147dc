"""Root file systems as data, and the archives written from them."""

import io
import json
import tarfile
from pathlib import Path

from ci.base.tree import FIXED_TIME, Tree, write_oci_archive


def members(tree: Tree) -> dict[str, tarfile.TarInfo]:
    out = io.BytesIO()
    tree.write_tar(out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_paths_go_through_links_of_the_tree_only() -> None:
    tree = Tree()
    tree.directory("/usr/lib64")
    tree.link("/lib64", "usr/lib64")
    tree.file("/lib64/ld.so", b"loader", 0o755)
    assert set(members(tree)) == {"usr", "usr/lib64", "lib64", "usr/lib64/ld.so"}


def test_first_entry_wins_and_parents_exist() -> None:
    tree = Tree()
    tree.file("/a/b/c", b"first")
    tree.file("/a/b/c", b"second")
    found = members(tree)
    assert found["a/b"].isdir()
    assert found["a/b/c"].size == len(b"first")


def test_everything_is_owned_by_root_at_one_time(tmp_path: Path) -> None:
    host_file = tmp_path / "file"
    host_file.write_bytes(b"content")
    tree = Tree()
    tree.directory("/tmp", 0o1777)
    tree.file("/etc/file", host_file, 0o640)
    for member in members(tree).values():
        assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", FIXED_TIME)
    assert members(tree)["tmp"].mode == 0o1777
    assert members(tree)["etc/file"].mode == 0o640


def test_archive_is_the_same_every_time_and_whole(tmp_path: Path) -> None:
    digests = []
    for name in ("one.tar", "two.tar"):
        tree = Tree()
        tree.file("/etc/file", b"content")
        digests.append(write_oci_archive(tree, tmp_path / name, config={"Env": ["A=b"]}, architecture="amd64", labels={"b": "2", "a": "1"}))
    assert digests[0] == digests[1]
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"one.tar", "two.tar"}


def test_archive_is_an_image_to_the_registry_client(tmp_path: Path) -> None:
    from pocket.oci import archive
    from pocket.oci.blobs import BlobDir

    tree = Tree()
    tree.file("/etc/file", b"content")
    digest = write_oci_archive(tree, tmp_path / "image.tar", config={"Cmd": ["sh"]}, architecture="amd64", labels={"kind": "host"})
    image = archive.read(tmp_path / "image.tar", BlobDir(tmp_path / "blobs"))
    assert image.digest == digest
    assert json.loads(image.config_bytes)["config"]["Labels"] == {"kind": "host"}
