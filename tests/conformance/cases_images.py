"""Images: archives out and in, layers, reproducibility, configuration."""

import hashlib
import io
import os
import tarfile
from typing import Any

import dagger
from casebook import Ctx, case, fails
from image_parts import parts


def names_in(layer: bytes) -> list[str]:
    """Name what is in a layer that is not compressed."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return tar.getnames()


@case([True, True])
async def archive_is_the_same_every_time(x: Ctx) -> Any:
    c = x.base.with_new_file("/f", "same").with_label("a", "b")
    await c.export(str(x.tmp / "1.tar"))
    await c.export(str(x.tmp / "2.tar"))
    sums = [hashlib.sha256((x.tmp / n).read_bytes()).hexdigest() for n in ("1.tar", "2.tar")]
    tarball = await c.as_tarball().digest(exclude_metadata=True) == await c.as_tarball().digest(exclude_metadata=True)
    return [sums[0] == sums[1], tarball]


@case([True, True])
async def digests_name_their_blobs(x: Ctx) -> Any:
    await x.sh("echo 1 > /new").export(str(x.tmp / "i.tar"))
    with tarfile.open(x.tmp / "i.tar") as tar:
        named = [(m.name[len("blobs/sha256/") :], tar.extractfile(m).read()) for m in tar if m.isfile() and m.name.startswith("blobs/")]  # type: ignore[union-attr]
    return [all(hashlib.sha256(data).hexdigest() == name for name, data in named), len(named) >= 4]


@case(
    [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ]
)
async def compression_and_media_types(x: Ctx) -> Any:
    c, kind = x.base.with_new_file("/f", "x"), dagger.ImageLayerCompression
    await c.export(str(x.tmp / "docker.tar"), media_types=dagger.ImageMediaTypes.DockerMediaTypes)
    await c.export(str(x.tmp / "plain.tar"), forced_compression=kind.Uncompressed)
    await c.export(str(x.tmp / "zstd.tar"), forced_compression=kind.Zstd)
    return [parts(x.tmp / n)[0]["layers"][-1]["mediaType"] for n in ("plain.tar", "zstd.tar", "docker.tar")]


@case(["b", "1", ["app", "/w"], True])
async def settings_survive_a_round_trip(x: Ctx) -> Any:
    c = x.base.with_label("a", "b").with_env_variable("E", "1").with_user("app").with_workdir("/w").with_exposed_port(81)
    again = x.dag.container().import_(c.as_tarball())
    return [
        await again.label("a"), await again.env_variable("E"), [await again.user(), await again.workdir()],
        [await p.port() for p in await again.exposed_ports()] == [81],
    ]  # fmt: skip


@case(["gone", "in /d: kept\n", "l -> kept"])
async def deletions_and_links_survive_a_round_trip(x: Ctx) -> Any:
    c = x.base.with_new_file("/d/gone", "").with_new_file("/d/kept", "").with_exec(["sh", "-c", "rm /d/gone; ln -s kept /d/l; rm -r /home"])
    again = x.dag.container().import_(c.as_tarball())
    look = "[ -e /home ] || echo gone; echo in /d: $(ls /d | grep -v l); echo l '->' $(readlink /d/l)"
    first, second, third = (await again.with_exec(["sh", "-c", look]).stdout()).splitlines()
    return [first, second + "\n", third]


@case(["1000:50 640\n"], single_uid=["0:0 640\n"])
async def owners_and_modes_survive_a_round_trip(x: Ctx) -> Any:
    c = x.base.with_new_file("/f", "", permissions=0o640, owner="app:staff")
    return [await x.dag.container().import_(c.as_tarball()).with_exec(["stat", "-c", "%u:%g %a", "/f"]).stdout()]


@case([["f", 1000, 50]])
async def owners_are_in_the_layer_in_every_tier(x: Ctx) -> Any:
    c = x.base.with_new_file("/f", "", owner="app:staff")
    await c.export(str(x.tmp / "i.tar"), forced_compression=dagger.ImageLayerCompression.Uncompressed)
    with tarfile.open(fileobj=io.BytesIO(parts(x.tmp / "i.tar")[2][-1])) as tar:
        return [[m.name, m.uid, m.gid] for m in tar if m.isfile()]


@case(fails("no containers to export"))
async def image_of_nothing(x: Ctx) -> Any:
    return await x.dag.container().with_label("a", "b").export(str(x.tmp / "i.tar"))


@case([False, False])
async def mounts_are_not_in_the_image(x: Ctx) -> Any:
    c = x.base.with_mounted_directory("/m", x.dag.directory().with_new_file("inside", "")).with_mounted_temp("/t").with_exec(["true"])
    await c.export(str(x.tmp / "i.tar"), forced_compression=dagger.ImageLayerCompression.Uncompressed)
    names = {name for layer in parts(x.tmp / "i.tar")[2] for name in names_in(layer)}
    return ["m/inside" in names, "m" in names]


@case(["v", None])
async def annotations_are_in_the_manifest(x: Ctx) -> Any:
    c = x.base.with_annotation("a.key", "v").with_annotation("b.key", "w").without_annotation("b.key")
    await c.export(str(x.tmp / "i.tar"))
    found = parts(x.tmp / "i.tar")[0].get("annotations", {})
    return [found.get("a.key"), found.get("b.key")]


@case([["sh"], "conformance", "amd64"])
async def configuration_of_the_base_stays(x: Ctx) -> Any:
    await x.base.export(str(x.tmp / "i.tar"))
    config = parts(x.tmp / "i.tar")[1]
    return [config["config"]["Cmd"], config["config"]["Labels"]["org.opencontainers.image.title"], config["architecture"]]


@case("0o600")
async def archive_is_the_owners_alone(x: Ctx) -> Any:
    await x.base.export(str(x.tmp / "i.tar"))
    return oct((x.tmp / "i.tar").stat().st_mode & 0o777)


@case(["kept", None, "conformance 1\n"])
async def import_keeps_mounts_and_replaces_settings(x: Ctx) -> Any:
    before = x.dag.container().with_env_variable("MINE", "mine").with_mounted_directory("/m", x.dag.directory().with_new_file("f", "kept"))
    c = before.import_(x.base.as_tarball())
    return [await c.file("/m/f").contents(), await c.env_variable("MINE"), await c.file("/etc/base-release").contents()]


@case(fails("RE:.+"))
async def import_of_something_else(x: Ctx) -> Any:
    return await x.dag.container().import_(x.dag.directory().with_new_file("f", "no archive").file("f")).sync()


@case(fails("RE:.*(connection refused|no such host|127.0.0.1:1).*"))
async def from_a_registry_that_is_not_there(x: Ctx) -> Any:
    return await x.dag.container().from_("127.0.0.1:1/none:latest").sync()


@case(["two layers", "one"], dagger=[3, "one"])
async def unchanged_steps_add_no_layer(x: Ctx) -> Any:
    c = x.base.with_exec(["true"])
    await c.export(str(x.tmp / "a.tar"))
    await c.with_new_file("/f", os.urandom(4).hex()).export(str(x.tmp / "b.tar"))
    a, b = len(parts(x.tmp / "a.tar")[2]), len(parts(x.tmp / "b.tar")[2])
    return ["two layers" if b == 2 else b, "one" if a <= 2 else a]
