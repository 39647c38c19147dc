"""Owners: what steps give away is so in every image that leaves, whatever the machine lets a step see of it."""

import io
import tarfile
from typing import Any

import dagger
from casebook import Ctx, case
from image_parts import parts

KINDS = {
    tarfile.DIRTYPE: "d",
    tarfile.SYMTYPE: "l",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
    tarfile.FIFOTYPE: "p",
    tarfile.LNKTYPE: "f",
}


async def owners(x: Ctx, made: Any, below: str = "t") -> dict[str, str]:
    """Export an image; give kind and owner of everything below a directory, as its layers say one after another."""
    archive = x.tmp / "owners.tar"
    await made.export(str(archive), forced_compression=dagger.ImageLayerCompression.Uncompressed)
    found: dict[str, str] = {}
    for layer in parts(archive)[2][1:]:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            for m in sorted(tar, key=lambda m: not m.name.rpartition("/")[2].startswith(".wh.")):
                parent, _, name = m.name.strip("./").rpartition("/") if "/.wh." not in m.name else m.name.rpartition("/")
                if name.startswith(".wh."):
                    gone = f"{parent}/{name[4:]}"
                    found = {n: o for n, o in found.items() if n != gone and not n.startswith(gone + "/")}
                elif (path := m.name.strip("/").removeprefix("./")).startswith(below):
                    found[path] = f"{KINDS.get(m.type, 'f')} {m.uid}:{m.gid}"
    return dict(sorted(found.items()))


@case(
    {
        "t": "d 0:0",
        "t/d": "d 7:8",
        "t/d/e": "d 7:8",
        "t/d/e/f": "f 7:8",
        "t/d/l": "l 7:8",
        "t/f": "f 1000:50",
        "t/l": "l 5:6",
        "t/r": "f 9:9",
    }
)
async def owners_given_by_name_and_number(x: Ctx) -> Any:
    made = x.sh(
        "mkdir -p /t/d/e && cd /t && touch f r d/e/f && ln -s nowhere d/l && ln -s r l && chown app:staff f && chown -Rh 7:8 d && "
        "chown -h 5:6 l && chown 9:9 l"
    )
    return await owners(x, made)


@case({"t": "d 0:0", "t/b": "f 3:3", "t/c": "f 3:3", "t/d": "f 0:0", "t/e": "f 0:0"})
async def owners_follow_renames_and_end_with_the_file(x: Ctx) -> Any:
    made = x.sh(
        "mkdir /t && cd /t && echo 1 > a && chown 3:3 a && mv a b && ln b c && echo 2 > d && chown 4:4 d && rm d && echo 3 > d && "
        "echo 4 > e && chown 4:4 e && echo 5 > n && mv n e"
    )
    return await owners(x, made)


@case({"t": "d 0:0", "t/kept": "f 3:4", "t/moved": "f 3:4", "t/new": "f 0:0", "t/own": "d 3:4", "t/own/in": "f 0:0"})
async def owners_of_lower_layers_survive_changes(x: Ctx) -> Any:
    first = x.sh("mkdir -p /t/own && cd /t && for f in kept old new gone; do echo $f > $f; done && chown 3:4 *")
    later = ["sh", "-c", "cd /t && echo more >> kept && mv old moved && rm new gone && echo 2 > new && touch own/in"]
    return await owners(x, first.with_exec(later))


@case({"t": "d 3:4", "t/all": "f 0:0", "t/f": "f 3:4", "t/g": "f 0:0"})
async def owners_of_what_programs_rewrite(x: Ctx) -> Any:
    first = x.sh("mkdir /t && cd /t && for f in f g all; do echo a > $f; done && chown -R 3:4 /t")
    script = """cd /t
    for f in f all; do set -- $(stat -c '%u:%g' $f); sed s/a/b/ $f > .$f && chown $1 .$f && mv .$f $f; done
    chown 0:0 g all"""
    return await owners(x, first.with_exec(["sh", "-c", script]))


@case({"t": "d 0:0", "t/a": "f 3:9", "t/b": "f 5:5", "t/l": "l 3:3"})
async def owners_change_again_in_a_later_layer(x: Ctx) -> Any:
    first = x.sh("mkdir /t && cd /t && echo a > a && echo b > b && ln -s a l && chown -h 3:3 a b l")
    later = ["sh", "-c", "cd /t && chown 3:9 a && echo c >> b && chown 5:5 b && chmod 600 b"]
    return await owners(x, first.with_exec(later))


@case({"t": "d 1000:1000", "t/d": "d 1000:50", "t/d/f": "f 1000:50", "t/f": "f 1000:1000", "t/g": "f 1000:50"})
async def owners_of_what_an_ordinary_user_makes(x: Ctx) -> Any:
    made = x.sh("mkdir /t && chown app:app /t").with_user("app")
    return await owners(x, made.with_exec(["sh", "-c", "cd /t && touch f g && mkdir d && chown app:staff g d && chmod g+s d && touch d/f"]))


@case("chown: /t: Operation not permitted\n")
async def an_ordinary_user_gives_nothing_away(x: Ctx) -> Any:
    return await x.sh("mkdir /t").with_user("app").with_exec(["sh", "-c", "chown 3 /t 2>&1 || true"]).stdout()


@case("chown: /none: No such file or directory\nchown: /ro: Read-only file system\n")
async def a_change_of_owner_that_cannot_be_fails(x: Ctx) -> Any:
    mounted = x.base.with_mounted_directory("/ro", x.dag.directory(), read_only=True)
    return await mounted.with_exec(["sh", "-c", "chown 3 /none /ro 2>&1 || true"]).stdout()


@case({"t": "d 0:0", "t/null": "c 0:0", "t/pipe": "p 3:0", "t/sda": "b 0:6"})
async def devices_that_a_step_makes(x: Ctx) -> Any:
    made = x.sh("mkdir /t && cd /t && cp /bin/busybox /bin/mk && ln -sf mk /bin/mknod && /bin/mknod null c 1 3 && /bin/mknod sda b 8 0 && "
                "/bin/mknod pipe p && chown 3 pipe && chown 0:6 sda")  # fmt: skip
    return await owners(x, made)


@case({"t/in": "d 3:3", "t/in/f": "f 3:3"})
async def owners_within_another_root(x: Ctx) -> Any:
    made = x.sh("mkdir -p /t/in /t/bin && cp /bin/busybox /t/bin/ && touch /t/in/f && chroot /t /bin/busybox chown -R 3:3 /in ../in")
    return await owners(x, made, "t/in")


@case({"t": "d 0:0", **{f"t/{n}": f"f {n}:1" for n in range(1, 41)}})
async def owners_of_many_writers_at_once(x: Ctx) -> Any:
    script = "mkdir /t && cd /t && for n in $(seq 40); do (echo $n > $n; chown $n:1 $n) & done; wait"
    return dict(sorted((await owners(x, x.sh(script))).items(), key=lambda item: int(item[0][2:] or 0)))


@case(["1000\n", "f 1000:0"])
async def owners_of_mounts_that_are_copied(x: Ctx) -> Any:
    mounted = x.base.with_mounted_directory("/m", x.dag.directory().with_new_file("f", "x")).with_exec(["chown", "1000", "/m/f"])
    image = x.base.with_directory("/t", mounted.directory("/m"))
    return ["1000\n", (await owners(x, image))["t/f"]]


@case("groups=50(staff),1000(app)\n")
async def further_groups_are_told(x: Ctx) -> Any:
    return await x.base.with_user("app").with_exec(["sh", "-c", "id | sed 's/.*groups/groups/'"]).stdout()
