"""What containers see of layers, volumes and secrets, and that nothing in an image can lead a mount elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from sandbox_box import Box, Inside, tiers, why_not

from pocket.sandbox import Mount, SandboxError

if TYPE_CHECKING:
    from sandbox_box import Result


@pytest.fixture(scope="module", params=tiers())
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    box = Box(request.param)
    yield box
    box.close()


STUBS = ("etc/hosts", "etc/resolv.conf")


def test_the_upper_holds_the_change_and_the_stubs(box: Box) -> None:
    done = box.sh("echo one > /etc/new")
    assert done.outcome.stubs == STUBS
    assert sorted(p.name for p in (done.upper / "etc").iterdir()) == ["hosts", "new", "resolv.conf"]
    assert [(done.upper / p).stat().st_size for p in STUBS] == [0, 0]


def test_an_empty_root_is_a_root(box: Box) -> None:
    done = box.run("/bin/sh", lowers=())
    assert done.err == "fork/exec /bin/sh: no such file or directory\n"
    assert set(done.outcome.stubs) == {"proc", "sys", "dev", "etc", *STUBS}


def test_a_directory_of_a_lower_layer_can_be_removed_and_made_again(box: Box) -> None:
    # Without `userxattr` in a user namespace this fails halfway with EIO.
    async def body(b: Inside) -> Result:
        lower = b.fresh("lower")
        for name in ("t/a/1", "t/a/2", "t/b/c/3"):
            (lower / name).parent.mkdir(parents=True, exist_ok=True)
            (lower / name).write_text(name)
        return await b.sh("rm -rf /t && mkdir /t && ls -A /t && mv /home /house && ls /house", lowers=(str(lower), str(b.base)))

    done = box.do(body)
    assert (done.code, done.out, done.err) == (0, "app\n", "")


def test_layers_are_stacked_topmost_first(box: Box) -> None:
    async def body(b: Inside) -> Result:
        low, top = b.fresh(), b.fresh()
        (low / "f").write_text("low")
        (low / "only").write_text("only")
        (top / "f").write_text("top")
        return await b.sh("cat /f /only", lowers=(str(top), str(low), str(b.base)))

    assert box.do(body).out == "toponly"


def test_five_hundred_layers_with_long_and_odd_names(box: Box) -> None:
    async def body(b: Inside) -> Result:
        parent = b.fresh("long") / ("x" * 100 + " ,:\\é")
        layers = []
        for n in range(499):
            layer = parent / f"{n}-{'y' * 60}"
            layer.mkdir(parents=True)
            (layer / f"file{n}").write_text("")
            layers.append(str(layer))
        return await b.sh("ls / | grep -c file", lowers=(*layers, str(b.base)))

    assert box.do(body).out == "499\n"


def test_more_layers_than_overlayfs_takes(box: Box) -> None:
    async def body(b: Inside) -> None:
        await b.run("true", lowers=(*(str(b.fresh()) for _ in range(500)), str(b.base)))

    with pytest.raises(SandboxError, match="501 layers: overlayfs takes 500") as caught:
        box.do(body)
    assert caught.value.hint == "flatten the image"


def test_a_file_system_that_overlayfs_refuses(box: Box) -> None:
    async def body(b: Inside) -> None:
        await b.run("true", upper="/proc/self/task", work="/proc/self/fdinfo")

    with pytest.raises(SandboxError, match="overlayfs cannot be used on the file system of the cache") as caught:
        box.do(body)
    assert "POCKET_CACHE" in caught.value.hint


def test_a_layer_that_is_gone(box: Box) -> None:
    async def body(b: Inside) -> None:
        await b.run("true", lowers=("/no/such/layer",))

    with pytest.raises(SandboxError, match="a layer directory cannot be opened: /no/such/layer"):
        box.do(body)


def test_a_directory_mount_has_its_own_upper(box: Box) -> None:
    async def body(b: Inside) -> tuple[Result, str, list[str]]:
        lower, upper, work = b.fresh(), b.fresh(), b.fresh()
        (lower / "f").write_text("1")
        mount = b.mount(target="/m/deep", kind="overlay", lowers=(str(lower),), upper=str(upper), work=str(work))
        done = await b.sh("cat /m/deep/f; echo 2 > /m/deep/f; echo 3 > /m/deep/g", mounts=(mount,))
        return done, (lower / "f").read_text(), sorted(p.name for p in upper.iterdir())

    done, below, above = box.do(body)
    assert (done.out, below, above) == ("1", "1", ["f", "g"])
    assert done.outcome.stubs == (*STUBS, "m", "m/deep")


def test_a_mount_inside_a_mount_leaves_its_stub_in_the_outer_one(box: Box) -> None:
    async def body(b: Inside) -> Result:
        lower, upper, work = b.fresh(), b.fresh(), b.fresh()
        (lower / "sub").mkdir()
        outer = b.mount(target="/m", kind="overlay", lowers=(str(lower),), upper=str(upper), work=str(work), subpath="sub")
        inner = b.mount(target="/m/a/in", kind="tmpfs")
        innermost = b.mount(target="/m/a/in/t/u", kind="tmpfs")
        return await b.sh("touch /m/a/in/x && ls -A /m /m/a/in", mounts=(outer, inner, innermost))

    done = box.do(body)
    assert (done.code, done.out) == (0, "/m:\na\n\n/m/a/in:\nt\nx\n")
    assert done.outcome.mount_stubs == ((0, "sub/a"), (0, "sub/a/in"))
    assert done.outcome.stubs == (*STUBS, "m")


def test_a_read_only_mount(box: Box) -> None:
    async def body(b: Inside) -> Result:
        lower = b.fresh()
        (lower / "f").write_text("1")
        mount = b.mount(target="/m", kind="overlay", lowers=(str(lower),), readonly=True)
        return await b.sh("cat /m/f; echo 2 > /m/f && echo wrote || echo refused; mount -o remount,rw /m && echo again", mounts=(mount,))

    assert box.do(body).out == "1refused\n"


def test_one_file_of_a_layer_as_a_mount(box: Box) -> None:
    async def body(b: Inside) -> tuple[Result, str]:
        lower, upper, work = b.fresh(), b.fresh(), b.fresh()
        (lower / "dir").mkdir()
        (lower / "dir/f").write_text("mounted")
        mount = b.mount(target="/a/b.txt", kind="overlay", lowers=(str(lower),), upper=str(upper), work=str(work), subpath="dir/f")
        done = await b.sh("cat /a/b.txt; echo more >> /a/b.txt; ls /a", mounts=(mount,))
        return done, (upper / "dir/f").read_text()

    done, changed = box.do(body)
    assert (done.out, changed) == ("mountedb.txt\n", "mountedmore\n")


def test_a_subpath_cannot_leave_its_layers(box: Box) -> None:
    async def body(b: Inside) -> Result:
        lower = b.fresh()
        (lower / "link").symlink_to("/etc/shadow")
        mount = b.mount(target="/m", kind="overlay", lowers=(str(lower),), subpath="link", readonly=True)
        return await b.run("true", mounts=(mount,))

    assert box.do(body).outcome.error == "link: no such file or directory"


def test_a_volume_is_shared_by_runs(box: Box) -> None:
    async def body(b: Inside) -> str:
        volume = b.fresh("volume")
        mounts = (b.mount(target="/c", kind="bind", source=str(volume)),)
        await b.sh("echo stored > /c/f", mounts=mounts)
        return (await b.sh("cat /c/f", mounts=mounts)).out

    assert box.do(body) == "stored\n"


def test_a_read_only_bind(box: Box) -> None:
    async def body(b: Inside) -> str:
        mounts = (b.mount(target="/c", kind="bind", source=str(b.fresh()), readonly=True),)
        return (await b.sh("touch /c/f || echo refused", mounts=mounts)).out

    assert box.do(body) == "refused\n"


def test_a_source_that_is_missing(box: Box) -> None:
    done = box.run("true", mounts=(Mount(target="/m", kind="bind", source="/no/such/place"),))
    assert (done.code, done.outcome.error) == (-1, "cannot mount /no/such/place: no such file or directory")


def test_a_directory_cannot_be_mounted_on_a_file(box: Box) -> None:
    done = box.run("true", mounts=(Mount(target="/etc/passwd", kind="tmpfs"),))
    assert done.outcome.error == "cannot mount a directory at /etc/passwd: it is a file"
    done = box.run("true", mounts=(Mount(target="/etc", kind="file", content=b""),))
    assert done.outcome.error == "cannot mount a file at /etc: it is a directory"


def test_a_temporary_mount_is_fresh_and_sized(box: Box) -> None:
    mounts = (Mount(target="/t", kind="tmpfs", size=65536),)
    done = box.sh("df -T /t | tail -1 | awk '{print $2, $3}'; stat -c %a /t; head -c 100000 /dev/zero > /t/f || echo full", mounts=mounts)
    assert done.out == "tmpfs 64\n1777\nfull\n"
    assert box.sh("ls -A /t", mounts=mounts).out == ""


def test_a_secret_is_in_memory_only(box: Box) -> None:
    mounts = (
        Mount(target="/run/s", kind="file", content=b"word"),
        Mount(target="/run/t", kind="file", content=b"x", mode=0o440, uid=1000, gid=50),
    )
    done = box.sh("cat /run/s; stat -c ' %a %u' /run/s; stat -c '%a %u:%g' /run/t", mounts=mounts)
    owner = "1000:50" if box.name in ("root", "subuid") else "0:0"
    assert done.out == f"word 400 0\n440 {owner}\n"
    assert (done.upper / "run/s").stat().st_size == 0
    assert {"run", "run/s", "run/t"} < set(done.outcome.stubs)


def test_a_user_can_read_a_secret_of_its_own_only(box: Box) -> None:
    mounts = tuple(Mount(target=f"/s{uid}", kind="file", content=b"w", uid=uid) for uid in (0, 1000))
    done = box.sh("cat /s1000; cat /s0 2>/dev/null || echo refused", mounts=mounts, user="app")
    assert done.out == ("wrefused\n" if box.name in ("root", "subuid") else "ww")


def test_links_in_an_image_lead_a_mount_nowhere_else(box: Box) -> None:
    async def body(b: Inside) -> tuple[Result, dict[str, str]]:
        victim = b.fresh("victim")
        for name in ("file", "dir/keep"):
            (victim / name).parent.mkdir(exist_ok=True)
            (victim / name).write_text("mine")
        lower = b.fresh("evil")
        (lower / "etc").mkdir()
        (lower / "etc/resolv.conf").symlink_to(f"../../../..{victim}/file")  # as if the container's root were below the host's
        (lower / "etc/hosts").symlink_to(victim / "new")
        (lower / "m").symlink_to(victim / "dir")
        mounts = (b.mount(target="/m", kind="tmpfs"), b.mount(target="/m/inside", kind="file", content=b"s"))
        done = await b.sh("cat /etc/hosts | head -1; cat /m/inside; touch /m/x", lowers=(str(lower), str(b.base)), mounts=mounts)
        return done, {str(p.relative_to(victim)): p.read_text() for p in victim.rglob("*") if p.is_file()}

    done, left = box.do(body)
    assert (done.code, done.out) == (0, "127.0.0.1\tlocalhost dagger\ns")
    assert left == {"file": "mine", "dir/keep": "mine"}
    assert all("victim" in stub or stub.split("/")[0] in {"tmp", "proc", "etc"} for stub in done.outcome.stubs)


def test_links_in_a_circle(box: Box) -> None:
    async def body(b: Inside) -> Result:
        lower = b.fresh()
        (lower / "a").symlink_to("b")
        (lower / "b").symlink_to("a")
        return await b.run("true", lowers=(str(lower), str(b.base)), mounts=(b.mount(target="/a/x", kind="tmpfs"),))

    assert box.do(body).outcome.error == "cannot mount at /a/x: too many levels of symbolic links"


def test_hosts_and_resolver_are_generated_and_read_only(box: Box) -> None:
    done = box.sh(
        "cat /etc/hosts /etc/resolv.conf; echo x >> /etc/hosts || echo refused",
        hosts=(("10.1.2.3", ("db", "alias")),),
        resolv=b"nameserver 10.9.9.9\n",
    )
    assert (
        done.out
        == "127.0.0.1\tlocalhost dagger\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tdb alias\nnameserver 10.9.9.9\nrefused\n"
    )


def test_no_network_is_a_loopback_only(box: Box) -> None:
    done = box.sh(
        "ip -o addr | awk '{print $2, $4}' | head -1; ip -o link | wc -l; nc -w 1 10.255.255.1 9 || echo unreachable", netns="none"
    )
    assert done.out.split("\n") == ["lo 127.0.0.1/8", "1", "unreachable", ""]


def test_a_device_of_the_host(box: Box) -> None:
    usual = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
    found = [e.path for e in os.scandir("/dev") if e.name not in usual and stat.S_ISCHR(e.stat(follow_symlinks=False).st_mode)]
    if not found:
        pytest.skip("this machine has no device that containers do not have anyway")
    assert box.sh(f"[ -c {found[0]} ] && echo there", devices=(found[0],)).out == "there\n"
    assert box.sh(f"[ -e {found[0]} ] || echo absent").out == "absent\n"


def test_the_host_is_out_of_reach(box: Box) -> None:
    done = box.sh("cat /proc/1/mountinfo /proc/self/mountinfo", insecure=True)
    assert str(box.tmp) not in done.out
    assert box.sh(f"ls -d {box.tmp} /proc/1/root{box.tmp} /proc/self/cwd/../../../..{box.tmp}", insecure=True).out == ""


def test_apt_may_stay_root_where_its_user_cannot_exist(box: Box) -> None:
    async def body(b: Inside) -> Result:
        lower = b.fresh()
        (lower / "etc/apt/apt.conf.d").mkdir(parents=True)
        return await b.sh("cat /etc/apt/apt.conf.d/*", lowers=(str(lower), str(b.base)))

    expected = "" if box.name in ("root", "subuid") else 'APT::Sandbox::User "root";\n'
    assert box.do(body).out == expected


def test_sync_does_not_reach_the_disk_and_still_succeeds(box: Box) -> None:
    assert "volatile" in box.sh("mount | grep ' / '").out


def test_a_mount_describes_itself_without_its_content() -> None:
    secret = Mount(target="/s", kind="file", content=b"word", readonly=True)
    assert secret.describe() == "file /s (4 bytes in memory, read-only)"
    assert Mount(target="/m", kind="overlay", lowers=("a", "b"), subpath="x").describe() == "overlay /m (2 layers /x)"
