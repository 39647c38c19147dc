"""Pitfalls that small engines fall into, each with the test that holds it off; those that no other file has are here, end to end.

* overlay without `userxattr`: test_sandbox_mounts: a_directory_of_a_lower_layer_can_be_removed_and_made_again
* `tarfile` filters for images: test_oci_unpack: everything_lands_with_its_attributes, links_to_real_places_of_the_host_stay_inside,
  a_hard_link_to_a_link…
* traversal, absolute names, `..`, NUL, non-UTF-8: test_oci_unpack: names_are_cleaned…, hostile_entries_are_refused…; test_oci_fuzz;
  names of any bytes: here
* whiteout after add, unknown `.wh..wh.*`: test_oci_unpack: whiteouts_become_devices_and_never_delete_what_the_layer_adds; end to end:
  here
* duplicate entries, change of type: test_oci_unpack: the_last_entry_of_a_name_wins_whatever_it_was; across layers: here
* hard links across layers: test_oci_unpack: a_hard_link_into_a_lower_layer_is_a_copy; written to by a step: here
* sharing inodes of committed layers: here
* copy with symlink escape: test_tree_ops: writing_through_symlinks_stays_in_the_tree, symlink_loops_end; test_tree_export; end to end:
  here
* devices, fifos, sockets: test_oci_unpack: devices_are_metadata_only; test_tree_commit; a socket and a fifo that a step leaves: here
* setuid and xattr order: test_oci_unpack: attributes_are_set_and_dangerous_ones_dropped; after a change of owner: here
* xattrs: test_oci_unpack (as above); test_oci_pack: long_and_odd_names_large_numbers_and_attributes_go_into_pax_records
* sparse files: test_oci_unpack: gnu_and_pax_long_names_and_sparse_files_made_by_tar
* decompression bombs, huge headers: test_oci_unpack: limits; an archive that a client gives: here
* blob not verified: test_oci_transport: content_that_is_not_what_was_named_is_never_kept; test_robust_remote; test_robust_errors:
  a_broken_archive
* bearer token sent on redirect: test_oci_transport: a_login_never_follows_a_redirect…, relative_redirects…, pieces_resume…,
  busy_registries…
* reproducible output: test_oci_pack: the_bytes_depend_on_the_index_alone; two caches: here
* gzip speed, no re-compression of pulled layers: test_oci_client: an_image_survives_a_push_and_a_pull; a layer that comes and goes:
  here
* cleaning up (`work/work`, foreign owners): test_store_sharing: a_tree_is_removed_whatever_its_modes; test_robust_kills
* logs (split UTF-8, secrets across chunks): test_telemetry_logs; test_scrub; a character cut by a pause: here
* caching failures, partial commits: here
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from busybox_image import make_base
from pocket_session import BASE, PocketSession, chain, session, sh

from pocket.oci import archive, digest, media
from pocket.oci.blobs import BlobDir
from pocket.oci.config import ImageConfig
from pocket.oci.image import from_layers
from pocket.oci.manifest import Descriptor

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("image") / "base.tar")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Iterator[PocketSession]:
    place = tmp_path_factory.mktemp("pitfalls")
    with session(place / "cache", place / "log", image=image) as running:
        yield running


def last(answer: Any) -> Any:
    while isinstance(answer, dict) and len(answer) == 1:
        (answer,) = answer.values()
    return answer


def run(asked: PocketSession, *fields: str) -> Any:
    return last(asked.ok(chain(BASE, *fields)))


def entry(
    name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = len(data), kind, link, mode
    return info, data


def packed(place: Path, *layers: Members) -> Path:
    """Write an image archive whose layers hold these entries."""
    blobs, descriptors, diff_ids = BlobDir(place / "blobs"), [], []
    for members in layers:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", errors="surrogateescape") as tar:
            for info, data in members:
                tar.addfile(info, io.BytesIO(data))
        blobs.put_bytes(out.getvalue())
        diff_ids.append(digest.of_bytes(out.getvalue()))
        descriptors.append(Descriptor(media_type=media.layer("none"), digest=diff_ids[-1], size=len(out.getvalue())))
    made = from_layers(ImageConfig(architecture="amd64", diff_ids=tuple(diff_ids)), descriptors, blobs)
    blobs.put_bytes(made.config_bytes)
    archive.export(place / "image.tar", [made])
    return place / "image.tar"


def imported(asked: PocketSession, path: Path, *fields: str) -> Any:
    ident = asked.ok(f'{{host{{file(path:"{path}"){{id}}}}}}', "host", "file", "id")
    return last(asked.ok(chain("container", f'import(source:"{ident}")', *fields)))


def test_whiteouts_and_types_across_the_layers_of_an_image(asked: PocketSession, tmp_path: Path) -> None:
    below = [
        entry("d/", kind=tarfile.DIRTYPE, mode=0o755), entry("d/gone", b"1"), entry("d/kept", b"2"), entry("d/file", b"3"),
        entry("d/dir/", kind=tarfile.DIRTYPE, mode=0o755), entry("d/dir/below", b"4"),
        entry("o/", kind=tarfile.DIRTYPE, mode=0o755), entry("o/old", b"5"),
        entry("d/first", b"6"), entry("d/second", kind=tarfile.LNKTYPE, link="d/first"),
    ]  # fmt: skip
    above = [
        entry("d/.wh.gone"), entry("d/new", b"n"), entry("d/.wh.new"), entry("d/.wh..wh.plnk"),
        entry("d/file/", kind=tarfile.DIRTYPE, mode=0o755),
        entry("d/file/in", b"x"), entry("d/dir", b"now a file"), entry("o/.wh..wh..opq"), entry("o/new", b"7"),
        entry("d/third", kind=tarfile.LNKTYPE, link="d/first"),
    ]  # fmt: skip
    path = packed(tmp_path, below, above)
    found = imported(asked, path, 'directory(path:"/")', 'glob(pattern:"**")')
    assert found == ["d/", "d/dir", "d/file/", "d/file/in", "d/first", "d/kept", "d/new", "d/second", "d/third", "o/", "o/new"]
    assert imported(asked, path, 'file(path:"/d/third")', "contents") == "6"


def test_what_a_step_writes_changes_no_layer_below(asked: PocketSession) -> None:
    """Layers share files by hard links; a step that writes to one of them must not write to the others."""
    made = [sh("mkdir /d; echo one > /d/a; ln /d/a /d/b; echo two > /d/c")]
    before = run(asked, *made, 'directory(path:"/d"){digest}')
    script = "echo more >> /d/a; chmod 600 /d/c; touch -d @5 /d/c; sed -i s/two/2/ /d/c; cat /d/a /d/c"
    assert run(asked, *made, sh(script), "stdout") == "one\nmore\n2\n"
    moved = f'withDirectory(path:"/copy",source:"{_id(asked, made, "/d")}")'
    assert run(asked, moved, sh("echo x >> /copy/a; cat /copy/a"), "stdout") == "one\nx\n"
    assert run(asked, *made, sh("cat /d/a /d/b /d/c"), "stdout") == "one\none\ntwo\n"
    assert run(asked, *made, 'directory(path:"/d"){digest}') == before


def _id(asked: PocketSession, fields: list[str], path: str) -> str:
    return str(run(asked, *fields, f'directory(path:"{path}")', "id"))


def test_links_lead_nowhere_but_into_the_snapshot(asked: PocketSession, tmp_path: Path) -> None:
    """Reading, copying, writing and exporting through links that a step made: to the host, up, and in circles."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    links = [
        sh(f"mkdir /d; ln -s {secret} /d/abs; ln -s ../../../../../../../../..{secret} /d/up; ln -s loop /d/loop; ln -s {tmp_path} /d/dir")
    ]
    for name in ("abs", "up", "loop", "dir/secret"):
        for root, path in (("/", f"d/{name}"), ("/d", name)):
            message = asked.error(chain(BASE, *links, f'directory(path:"{root}")', f'file(path:"{path}")', "contents"))["message"]
            assert "no such file or directory" in message or "too many levels" in message
    run(asked, *links, 'withNewFile(path:"/d/dir/new",contents:"x")', 'file(path:"/d/dir/new")', "size")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret"]
    out = tmp_path / "out"
    out.mkdir()
    (out / "dir").symlink_to(tmp_path)
    for _ in range(2):
        run(asked, *links, sh("rm /d/dir; mkdir /d/dir; echo pwned > /d/dir/secret"), f'directory(path:"/d"){{export(path:"{out}")}}')
    assert secret.read_text() == "of the host"
    assert (out / "dir" / "secret").read_text() == "pwned\n"


def test_what_is_no_file_is_left_out_or_noted(asked: PocketSession, tmp_path: Path) -> None:
    script = "mkdir /d && mkfifo /d/pipe && (nc -lU /d/sock & sleep 0.3; kill $!) 2>/dev/null; touch /d/file; ls /d | grep -v sock"
    fields = [sh(script)]
    assert run(asked, *fields, "stdout") == "file\npipe\n"
    assert run(asked, *fields, sh("[ -p /d/pipe ] && echo a pipe still"), "stdout") == "a pipe still\n"
    assert "sock" not in run(asked, *fields, 'directory(path:"/d")', "entries")


def test_a_setuid_bit_survives_a_change_of_owner(asked: PocketSession) -> None:
    fields = [sh("echo x > /f; chmod 4755 /f; stat -c %a /f")]
    assert run(asked, *fields, "stdout") == "4755\n"
    ident = run(asked, *fields, 'directory(path:"/")', 'chown(path:"f",owner:"7:8")', "id")
    assert run(asked, f'withDirectory(path:"/c",source:"{ident}")', sh("stat -c %a /c/f"), "stdout") == "4755\n"


def test_names_of_any_bytes_and_lengths(asked: PocketSession, tmp_path: Path) -> None:
    made = [sh("mkdir /d; cd /d; touch -- \"$(printf 'a\\377b')\" 'new\nline' '-rf' '*' ' ' \"$(printf %0255d 0)\" .wh; ls | wc -l")]
    names = run(asked, *made, 'directory(path:"/d")', "entries")
    assert set(names) == {"a\udcffb", "new\nline", "-rf", "*", " ", "0" * 255, ".wh"}
    ident = _id(asked, made, "/d")
    out = tmp_path / "out"
    asked.ok(f'{{loadDirectoryFromID(id:"{ident}"){{export(path:"{out}")}}}}')
    assert sorted(p.name for p in out.iterdir()) == sorted(names)
    again = last(asked.ok(f'{{host{{directory(path:"{out}"){{entries}}}}}}'))
    assert again == names


def test_an_archive_that_is_a_bomb(asked: PocketSession, tmp_path: Path) -> None:
    """A header that claims more than there is, and one with a name as long as a layer may not have."""
    huge, _ = entry("huge")
    huge.size = 1 << 50
    data = huge.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024
    (tmp_path / "bomb.tar").write_bytes(data)
    long, _ = entry("n" * (2 << 20))
    (tmp_path / "long.tar").write_bytes(long.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    for name in ("bomb", "long"):
        ident = asked.ok(f'{{host{{file(path:"{tmp_path}/{name}.tar"){{id}}}}}}', "host", "file", "id")
        message = asked.error(f'{{container{{import(source:"{ident}"){{id}}}}}}')["message"]
        assert "no image archive, or a damaged one" in message


def test_the_same_image_comes_out_of_every_cache(tmp_path: Path, image: Path) -> None:
    """Commands that leave the same files, at other times and in another order, make the same layers."""
    found = []
    for n, order in enumerate(("a b c", "c b a")):
        place = tmp_path / str(n)
        place.mkdir()
        script = f"mkdir /d; for x in {order}; do echo $x > /d/$x; done; touch -d @1000000000 /d/* /d /"
        with session(place / "cache", place / "log", image=image, env={"SOURCE_DATE_EPOCH": "1000000000"}) as s:
            s.ok(chain(BASE, sh(script), f'export(path:"{place}/out.tar")'))
        with tarfile.open(place / "out.tar") as tar:
            found.append({m.name: tar.extractfile(m).read() for m in tar if m.isfile()})  # type: ignore[union-attr]  # files only
    assert found[0].keys() == found[1].keys()
    assert found[0] == found[1]


def test_a_layer_leaves_as_it_came(asked: PocketSession, tmp_path: Path, image: Path) -> None:
    run(asked, 'withLabel(name:"a",value:"b")', f'export(path:"{tmp_path}/out.tar")')
    with tarfile.open(image) as came, tarfile.open(tmp_path / "out.tar") as went:
        large = [m.name for m in came if m.size > 100_000]
        assert large
        for name in large:
            assert came.extractfile(name).read() == went.extractfile(name).read()  # type: ignore[union-attr]  # files only


def test_output_that_cuts_a_character(asked: PocketSession) -> None:
    script = "printf 'caf\\303'; sleep 0.05; printf '\\251\\n'; printf '\\377\\n' >&2"
    assert run(asked, sh(script), "stdout") == "café\n"
    assert run(asked, sh(script), "stderr") == "\ufffd\n"


def test_a_failure_is_tried_again_and_leaves_nothing(asked: PocketSession, tmp_path: Path) -> None:
    """The first run fails after it has written; the second finds neither a record nor what the first had written."""
    ident = asked.ok('{cacheVolume(key:"tries"){id}}', "cacheVolume", "id")
    fields = [
        f'withMountedCache(path:"/v",cache:"{ident}")',
        sh("[ ! -e /left ] && touch /left && echo try >> /v/tries && [ $(wc -l < /v/tries) = 2 ]"),
    ]
    assert asked.error(chain(BASE, *fields, "exitCode"))["message"] == "exit code: 1"
    assert run(asked, *fields, "exitCode") == 0
    assert json.loads(json.dumps(run(asked, *fields, sh("wc -l < /v/tries"), "stdout"))) == "2\n"
