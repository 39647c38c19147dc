"""The host: directories in, with filters, and results out."""

import os
from typing import Any

from casebook import Ctx, case, fails, plain


def write(x: Ctx, *names: str) -> None:
    """Write files that hold their own name below the scratch directory."""
    for name in names:
        path = x.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@case([".hidden", "a", "empty/", "n/", "n/b"])
async def directory_comes_whole(x: Ctx) -> Any:
    write(x, "a", "n/b", ".hidden")
    (x.tmp / "empty").mkdir()
    return await x.dag.host().directory(str(x.tmp)).glob("**")


@case([["deep/", "deep/a/", "deep/a/x.py"], ["a", "deep/", "deep/a/", "deep/a/x.py"]])
async def patterns_are_relative_to_the_directory(x: Ctx) -> Any:
    write(x, "a", "deep/a/x.py", "deep/a/y.txt", "z.log")
    host = x.dag.host()
    return [
        await host.directory(str(x.tmp), include=["deep/a/*.py"]).glob("**"),
        await host.directory(str(x.tmp), include=["**/a"], exclude=["**/*.txt"]).glob("**"),
    ]


@case(["f", "link -> f", "outside -> /etc/hostname"])
async def links_come_as_links(x: Ctx) -> Any:
    write(x, "f")
    (x.tmp / "link").symlink_to("f")
    (x.tmp / "outside").symlink_to("/etc/hostname")
    c = x.base.with_directory("/h", x.dag.host().directory(str(x.tmp)))
    out = await c.with_exec(["sh", "-c", 'cd /h; for f in *; do [ -L $f ] && echo "$f -> $(readlink $f)" || echo $f; done']).stdout()
    return out.splitlines()


@case(["600\n", "700\n"])
async def modes_come_along(x: Ctx) -> Any:
    write(x, "f", "d/g")
    (x.tmp / "f").chmod(0o600)
    (x.tmp / "d").chmod(0o700)
    c = x.base.with_directory("/h", x.dag.host().directory(str(x.tmp)))
    return [await c.with_exec(["stat", "-c", "%a", p]).stdout() for p in ("/h/f", "/h/d")]


@case(["one", "one", "two"])
async def directory_is_read_once_unless_told(x: Ctx) -> Any:
    write(x, "f")
    (x.tmp / "f").write_text("one")
    host = x.dag.host()
    first = await host.directory(str(x.tmp)).file("f").contents()
    (x.tmp / "f").write_text("two")
    return [
        first,
        await host.directory(str(x.tmp)).file("f").contents(),
        await host.directory(str(x.tmp), no_cache=True).file("f").contents(),
    ]


@case([["a", "b"], ["b", "c"], ["b/", "b/x", "c"]])
async def directory_follows_what_happens(x: Ctx) -> Any:
    async def look() -> Any:
        return await x.dag.host().directory(str(x.tmp), no_cache=True).glob("**")

    write(x, "a", "b")
    first = await look()
    (x.tmp / "a").unlink()
    write(x, "c")
    second = await look()
    (x.tmp / "b").unlink()
    write(x, "b/x")
    return [first, second, await look()]


@case([".gitignore", "keep/", "keep/.gitignore", "keep/a", "src"])
async def gitignore_nested_and_negated(x: Ctx) -> Any:
    (x.tmp / ".git").mkdir()
    write(x, "src", "x.o", "keep/a", "keep/b", "build/y")
    (x.tmp / ".gitignore").write_text("*.o\n/build\n")
    (x.tmp / "keep/.gitignore").write_text("*\n!a\n!.gitignore\n")
    return await x.dag.host().directory(str(x.tmp), gitignore=True, exclude=[".git"]).glob("**")


@case("DIR is a file, not a directory")
async def file_as_a_directory(x: Ctx) -> Any:
    write(x, "f")
    try:
        await x.dag.host().directory(str(x.tmp / "f")).entries()
    except Exception as e:  # noqa: BLE001 - the text is what is looked at
        return "DIR is a file, not a directory" if "f" in plain(str(e)) else str(e)


@case(fails("RE:.*"))
async def directory_as_a_file(x: Ctx) -> Any:
    return await x.dag.host().file(str(x.tmp)).contents()


@case(["n", "0o640", "0o710", "target"])
async def export_keeps_modes_and_links(x: Ctx) -> Any:
    d = (
        x.dag.directory()
        .with_new_directory("d", permissions=0o710)
        .with_new_file("d/n", "n", permissions=0o640)
        .with_symlink("target", "l")
    )
    out = x.tmp / "out"
    await d.export(str(out))
    modes = [oct((out / p).stat().st_mode & 0o7777) for p in ("d/n", "d")]
    return [(out / "d/n").read_text(), *modes, os.readlink(out / "l")]  # noqa: PTH115 - its text


@case(["kept", "safe"])
async def export_does_not_follow_links_of_the_target(x: Ctx) -> Any:
    out, elsewhere = x.tmp / "out", x.tmp / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (elsewhere / "f").write_text("kept")
    (out / "d").symlink_to(elsewhere)
    try:
        await x.dag.directory().with_new_file("d/f", "overwritten").export(str(out))
    except Exception:  # noqa: BLE001 - refusing is as good as replacing the link
        return [(elsewhere / "f").read_text(), "safe"]
    return [(elsewhere / "f").read_text(), "safe"]


@case([["d"], True, ["x"]])
async def export_of_a_part_and_of_nothing(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("sub/d", "1")
    await d.directory("sub").export(str(x.tmp / "a"))
    await x.dag.directory().export(str(x.tmp / "b"))
    await x.dag.directory().with_new_file("x", "1").file("x").export(str(x.tmp / "c/x"))
    return [sorted(p.name for p in (x.tmp / "a").iterdir()), (x.tmp / "b").is_dir(), sorted(p.name for p in (x.tmp / "c").iterdir())]


@case("changed by a step\n")
async def export_of_a_steps_result(x: Ctx) -> Any:
    c = x.sh("mkdir -p /out/deep; echo changed by a step > /out/deep/f")
    await c.directory("/out").export(str(x.tmp / "o"))
    return (x.tmp / "o/deep/f").read_text()


@case(["round", "0o750"])
async def round_trip(x: Ctx) -> Any:
    write(x, "in/f")
    (x.tmp / "in/f").write_text("round")
    (x.tmp / "in/f").chmod(0o750)
    await x.dag.host().directory(str(x.tmp / "in")).export(str(x.tmp / "out"))
    return [(x.tmp / "out/f").read_text(), oct((x.tmp / "out/f").stat().st_mode & 0o777)]
