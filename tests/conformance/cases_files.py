"""Files: reading, writing, modes, owners, names, links, and what a path may be."""

from typing import Any

import dagger
from casebook import Ctx, case, fails


@case(["", "é\U0001f600\n", "a\r\nb", 1_000_000])
async def contents_are_kept(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("empty", "").with_new_file("text", "é\U0001f600\n").with_new_file("crlf", "a\r\nb")
    d = d.with_new_file("large", "0123456789" * 100_000)
    texts = [await d.file(name).contents() for name in ("empty", "text", "crlf")]
    return [*texts, await d.file("large").size()]


@case("RE:\\w+  -\n")
async def bytes_that_are_no_text_survive(x: Ctx) -> Any:
    c = x.sh("head -c 100000 /dev/urandom > /r; md5sum < /r > /sum")
    d = x.base.with_file("/copied", c.file("/r")).with_file("/sum", c.file("/sum"))
    return await d.with_exec(["sh", "-c", '[ "$(md5sum < /copied)" = "$(cat /sum)" ] && cat /sum']).stdout()


@case("one two")
async def file_replaced_by_a_file(x: Ctx) -> Any:
    c = x.base.with_new_file("/f", "zero, longer than the others").with_new_file("/f", "one two")
    return await c.with_exec(["cat", "/f"]).stdout()


@case(["644", "600", "755", "755", "0"])
async def modes_of_new_files(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("a", "")
    for n, mode in enumerate((0o600, 0o755, 0o4755)):
        d = d.with_new_file(f"m{n}", "", permissions=mode)
    d = d.with_file("z", d.file("a"), permissions=0)
    out = await x.base.with_directory("/d", d).with_exec(["stat", "-c", "%a", "/d/a", "/d/m0", "/d/m1", "/d/m2", "/d/z"]).stdout()
    return out.split()


@case(["640", "755"])
async def modes_of_copies(x: Ctx) -> Any:
    f = x.dag.directory().with_new_file("f", "", permissions=0o640).file("f")
    c = x.base.with_file("/same", f).with_file("/other", f, permissions=0o755)
    return (await c.with_exec(["stat", "-c", "%a", "/same", "/other"]).stdout()).split()


@case(["1000:50", "1000:1000", "77:88"], single_uid=["0:0", "0:0", "0:0"])
async def owners_of_new_files(x: Ctx) -> Any:
    c = x.base.with_new_file("/a", "", owner="app:staff").with_new_file("/b", "", owner="app").with_new_file("/c", "", owner="77:88")
    return (await c.with_exec(["stat", "-c", "%u:%g", "/a", "/b", "/c"]).stdout()).split()


@case(fails("RE:.*no such group: ghosts.*"))
async def owner_with_an_unknown_group(x: Ctx) -> Any:
    return await x.base.with_new_file("/n", "", owner="app:ghosts").file("/n").contents()


@case(["r", "r", "r"])
async def links_are_followed_inside_only(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("real", "r").with_symlink("real", "relative").with_symlink("/real", "absolute")
    d = d.with_symlink("../../../../real", "out")
    return [await d.file(name).contents() for name in ("relative", "absolute", "out")]


@case(fails("RE:.*too many.*|RE:.*"))
async def links_in_a_circle(x: Ctx) -> Any:
    return await x.dag.directory().with_symlink("b", "a").with_symlink("a", "b").file("a").contents()


@case(["w\n", "old\n"])
async def writing_through_a_link_in_a_step(x: Ctx) -> Any:
    c = x.base.with_new_file("/t", "old\n").with_symlink("/t", "/l")
    return [await c.with_exec(["sh", "-c", "echo w > /l"]).file("/t").contents(), await c.file("/t").contents()]


@case(["f", "inner/", "x"])
async def names_of_files_and_directories(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("deep/inner/f", "x")
    return [
        await d.file("deep/inner/f").name(),
        await d.directory("deep/inner").name(),
        await d.file("/deep/./inner/../inner/f").contents(),
    ]


@case([" lead", "a b", "dash-", "sp*ar?", "ü"])
async def names_may_be_anything(x: Ctx) -> Any:
    d = x.dag.directory()
    for name in (" lead", "a b", "dash-", "sp*ar?", "ü"):
        d = d.with_new_file(name, name)
    out = await x.base.with_directory("/d", d).with_exec(["sh", "-c", 'cd /d; for f in *; do cat "$f"; echo; done']).stdout()
    return sorted(out.splitlines())


@case([["new"], "text", "new"])
async def file_renamed_on_its_way(x: Ctx) -> Any:
    f = x.dag.directory().with_new_file("old", "text").file("old").with_name("new")
    d = x.dag.directory().with_new_directory("d").with_file("d", f)
    return [await d.entries(path="d"), await d.file("d/new").contents(), await f.name()]


@case(["f", 3, 0o640, "REGULAR", "SYMLINK", "DIRECTORY"])
async def stat_tells_all_kinds(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("f", "123", permissions=0o640).with_symlink("f", "l").with_new_directory("d")
    s, link = d.stat("l"), d.stat("l", do_not_follow_symlinks=True)
    kinds = [(await link.file_type()).value, (await d.stat("d").file_type()).value]
    return ["f", await s.size(), await s.permissions(), (await s.file_type()).value, *kinds]


@case(["3\n4\n", "", "1\n2\n3\n4\n"])
async def lines_from_and_up_to(x: Ctx) -> Any:
    f = x.dag.directory().with_new_file("f", "1\n2\n3\n4\n").file("f")
    return [await f.contents(offset_lines=2), await f.contents(offset_lines=4), await f.contents(limit_lines=99)]


@case(["aXa", "XbX", "line1\nTWO\nline1\n"])
async def text_replaced(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("f", "aba").with_new_file("g", "line1\nline2\nline1\n")
    return [
        await d.file("f").with_replaced("b", "X").contents(), await d.file("f").with_replaced("a", "X", all=True).contents(),
        await d.file("g").with_replaced("line2", "TWO").contents(),
    ]  # fmt: skip


@case("755\n")
async def text_replaced_keeps_the_mode(x: Ctx) -> Any:
    f = x.dag.directory().with_new_file("f", "#!/bin/sh\necho a\n", permissions=0o755).file("f").with_replaced("a", "b")
    return await x.base.with_file("/f", f).with_exec(["stat", "-c", "%a", "/f"]).stdout()


@case(["1000000000\n", "2\n"])
async def timestamps_of_single_files(x: Ctx) -> Any:
    f = x.dag.directory().with_new_file("f", "").file("f").with_timestamps(1_000_000_000)
    d = x.dag.directory().with_new_file("g", "").with_timestamps(2)
    c = x.base.with_file("/f", f).with_directory("/d", d)
    return [await c.with_exec(["stat", "-c", "%Y", p]).stdout() for p in ("/f", "/d/g")]


@case([True, False, True])
async def digest_sees_content_and_mode(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("a", "x").with_new_file("b", "x").with_new_file("c", "x", permissions=0o600)
    a, b, c = [await d.file(n).digest() for n in "abc"]
    plain = [await d.file(n).digest(exclude_metadata=True) for n in "ac"]
    return [a == b, a == c, plain[0] == plain[1]]


@case(fails("RE:.*etc/passwd/x: (not a directory|no such file or directory)"))
async def path_through_a_file(x: Ctx) -> Any:
    return await x.base.file("/etc/passwd/x").contents()


@case([True, False, False, True, False])
async def existence_by_kind_in_a_container(x: Ctx) -> Any:
    kind = dagger.ExistsType
    c = x.base.with_symlink("/nowhere", "/dangling")
    return [
        await c.exists("/etc", expected_type=kind.DIRECTORY_TYPE), await c.exists("/etc", expected_type=kind.REGULAR_TYPE),
        await c.exists("/dangling"), await c.exists("/dangling", do_not_follow_symlinks=True), await c.exists("/etc/nope"),
    ]  # fmt: skip


@case(["n", "exp", [False, True]])
async def paths_relative_to_the_workdir_and_expanded(x: Ctx) -> Any:
    c = x.base.with_workdir("/w").with_new_file("n", "n").with_env_variable("D", "/e").with_new_file("$D/x", "exp", expand=True)
    gone = c.without_file("n")
    return [
        await c.file("/w/n").contents(),
        await c.file("${D}/x", expand=True).contents(),
        [await gone.exists("/w/n"), await gone.exists("/w")],
    ]


@case(["REG", "5\n", "5\n"])
async def hard_links_survive_a_step(x: Ctx) -> Any:
    c = x.sh("printf 12345 > /a; ln /a /b; stat -c %h /a")
    d = c.with_exec(["sh", "-c", "wc -c < /b"])
    return ["REG", await d.stdout(), await c.with_exec(["sh", "-c", "rm /a; wc -c < /b"]).stdout()]


@case("p c\n", rootless="p\n")
async def special_files_survive_a_step(x: Ctx) -> Any:
    c = x.sh("mkfifo /p; mknod /c c 1 3 2>/dev/null || true").with_exec(
        ["sh", "-c", "[ -p /p ] && printf p; [ -c /c ] && printf ' c'; echo"]
    )
    return await c.stdout()


@case(["sparse", 10_000_001])
async def sparse_files_keep_their_size(x: Ctx) -> Any:
    c = x.sh("dd if=/dev/zero of=/s bs=1 count=1 seek=10000000 2>/dev/null")
    return ["sparse", await c.file("/s").size()]
