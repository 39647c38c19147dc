"""Mounts: directories, files, temporary ones, cache volumes and sockets."""

import socket
from typing import Any

import anyio
import dagger
from casebook import Ctx, case, fails

UUID = "cat /proc/sys/kernel/random/uuid"


def one(x: Ctx, name: str = "f", text: str = "1") -> Any:
    """Make a directory with one file."""
    return x.dag.directory().with_new_file(name, text)


@case(["mounted", "below"])
async def mounted_directory_hides_what_is_below(x: Ctx) -> Any:
    c = x.base.with_new_file("/m/f", "below")
    mounted = c.with_mounted_directory("/m", one(x, text="mounted"))
    return [await mounted.with_exec(["cat", "/m/f"]).stdout(), await mounted.without_mount("/m").file("/m/f").contents()]


@case([["g"], ["a", "b"], False])
async def mount_replaced_and_parent_mount_drops_children(x: Ctx) -> Any:
    c = x.base.with_mounted_directory("/m/sub", one(x)).with_mounted_directory("/m/sub", one(x, "g"))
    parent = c.with_mounted_directory("/m", one(x, "a").with_new_file("b", ""))
    return [await c.directory("/m/sub").entries(), await parent.directory("/m").entries(), "/m/sub" in await parent.mounts()]


@case(["new", "new", "1"])
async def new_file_at_a_mount_goes_into_the_mount(x: Ctx) -> Any:
    d = one(x)
    c = x.base.with_mounted_directory("/m", d).with_new_file("/m/f", "new")
    return [await c.file("/m/f").contents(), await c.with_exec(["cat", "/m/f"]).stdout(), await d.file("f").contents()]


@case(["2\n", "2\n", "1"])
async def changes_go_on_to_the_next_step(x: Ctx) -> Any:
    c = x.base.with_mounted_directory("/m", one(x)).with_exec(["sh", "-c", "echo 2 > /m/f"])
    d = c.with_exec(["cat", "/m/f"])
    return [await d.stdout(), await c.directory("/m").file("f").contents(), await one(x).file("f").contents()]


@case([["deep/"], "x"])
async def mount_at_a_place_that_is_not_there(x: Ctx) -> Any:
    c = x.base.with_mounted_directory("/no/such/place", one(x, "deep/f", "x"))
    return [await c.directory("/no/such/place").entries(), await c.with_exec(["cat", "/no/such/place/deep/f"]).stdout()]


@case([False, False, False])
async def mount_points_leave_no_trace(x: Ctx) -> Any:
    c = x.base.with_mounted_directory("/p/q", one(x)).with_mounted_file("/r/s", one(x).file("f")).with_mounted_temp("/t/u")
    c = c.with_exec(["true"])
    return [await c.rootfs().exists("p"), await c.rootfs().exists("r"), await c.rootfs().exists("t")]


@case("sub\n")
async def part_of_a_directory_mounted(x: Ctx) -> Any:
    return await x.base.with_mounted_directory("/m", one(x, "a/b/f", "sub\n").directory("a/b")).with_exec(["cat", "/m/f"]).stdout()


@case("refused refused\n")
async def read_only_mounts_refuse_everything(x: Ctx) -> Any:
    c = x.base.with_mounted_directory("/m", one(x), read_only=True)
    script = "(rm /m/f) 2>/dev/null && printf removed || printf refused; (mkdir /m/d) 2>/dev/null && echo ' made' || echo ' refused'"
    return await c.with_exec(["sh", "-c", script]).stdout()


@case("1000:50\n", single_uid="0:0\n")
async def mounted_directory_takes_an_owner(x: Ctx) -> Any:
    return await x.base.with_mounted_directory("/m", one(x), owner="app:staff").with_exec(["stat", "-c", "%u:%g", "/m/f"]).stdout()


@case(["changed\n", "1"])
async def mounted_file_can_be_written(x: Ctx) -> Any:
    f = one(x).file("f")
    c = x.base.with_mounted_file("/etc/conf", f).with_exec(["sh", "-c", "echo changed > /etc/conf"])
    return [await c.with_exec(["cat", "/etc/conf"]).stdout(), await f.contents()]


@case(["x", "/w/m"])
async def mount_relative_to_the_workdir(x: Ctx) -> Any:
    c = x.base.with_workdir("/w").with_mounted_directory("m", one(x, "f", "x"))
    return [await c.with_exec(["cat", "m/f"]).stdout(), (await c.mounts())[0]]


@case("1024\n")
async def temporary_mount_of_a_size(x: Ctx) -> Any:
    c = x.base.with_mounted_temp("/t", size=1 << 20)
    return await c.with_exec(["sh", "-c", "df -k /t | tail -1 | awk '{print $2}'"]).stdout()


@case("full\n")
async def temporary_mount_fills_up(x: Ctx) -> Any:
    c = x.base.with_mounted_temp("/t", size=1 << 20)
    return await c.with_exec(["sh", "-c", "head -c 3000000 /dev/zero > /t/f 2>/dev/null && echo fits || echo full"]).stdout()


@case(["1\n2\n", "1\n"])
async def cache_volumes_are_told_apart_by_key(x: Ctx) -> Any:
    async def add(key: str, n: int) -> Any:
        c = x.fresh().with_env_variable("N", str(n)).with_mounted_cache("/c", x.dag.cache_volume(key + x.salt))
        return await c.with_exec(["sh", "-c", "echo x >> /c/f; grep -n x /c/f | cut -d: -f1"]).stdout()

    await add("one", 1)
    return [await add("one", 2), await add("two", 3)]


@case(["other\n", "kept\n"])
async def sharing_mode_makes_another_volume(x: Ctx) -> Any:
    v = x.dag.cache_volume("modes" + x.salt)
    locked = dagger.CacheSharingMode.LOCKED
    await x.fresh().with_mounted_cache("/c", v).with_exec(["sh", "-c", "echo kept > /c/f"]).sync()
    look = ["sh", "-c", "cat /c/f 2>/dev/null || echo other"]
    return [
        await x.fresh().with_mounted_cache("/c", v, sharing=locked).with_exec(look).stdout(),
        await x.fresh().with_mounted_cache("/c", v).with_exec(look).stdout(),
    ]


@case(0)
async def locked_volume_is_used_by_one_at_a_time(x: Ctx) -> Any:
    v, clashes = x.dag.cache_volume("lock" + x.salt), []
    script = "mkdir /c/busy 2>/dev/null || { echo clash; exit 0; }; sleep 0.1; rmdir /c/busy; echo fine"

    async def use(n: int) -> None:
        c = x.fresh().with_env_variable("N", str(n)).with_mounted_cache("/c", v, sharing=dagger.CacheSharingMode.LOCKED)
        clashes.append((await c.with_exec(["sh", "-c", script]).stdout()).strip() == "clash")

    async with anyio.create_task_group() as group:
        for n in range(4):
            group.start_soon(use, n)
    return sum(clashes)


@case(["seed", "changed\n"])
async def seed_counts_for_a_new_volume_only(x: Ctx) -> Any:
    v, seed = x.dag.cache_volume("seeded" + x.salt), one(x, "s", "seed")
    c = x.fresh().with_mounted_cache("/c", v, source=seed)
    first = await c.with_exec(["cat", "/c/s"]).stdout()
    await c.with_exec(["sh", "-c", "echo changed > /c/s"]).sync()
    return [first, await c.with_env_variable("AGAIN", "1").with_exec(["cat", "/c/s"]).stdout()]


@case(["other\n", "other\n"])
async def content_of_a_volume_is_no_input(x: Ctx) -> Any:
    v = x.dag.cache_volume("noinput" + x.salt)
    look = x.fresh().with_mounted_cache("/c", v).with_exec(["sh", "-c", "cat /c/f 2>/dev/null || echo other"])
    first = await look.stdout()
    await x.fresh().with_mounted_cache("/c", v).with_exec(["sh", "-c", "echo now > /c/f"]).sync()
    return [first, await look.stdout()]


@case(fails("/c: cannot retrieve path from cache"))
async def directory_of_a_volume_cannot_be_read(x: Ctx) -> Any:
    return await x.base.with_mounted_cache("/c", x.dag.cache_volume("dir")).directory("/c").entries()


@case("RE:.*said through a socket.*")
async def socket_of_the_host(x: Ctx) -> Any:
    path = x.tmp / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        path.chmod(0o777)
        receiver.settimeout(30)
        c = x.fresh().with_unix_socket("/dev/log", x.dag.host().unix_socket(str(path)))
        await c.with_exec(["logger", "said through a socket"]).sync()
        return receiver.recv(4096).decode()
