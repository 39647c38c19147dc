"""Directories: composing, filtering, comparing, searching, and what of a step's changes is kept."""

from typing import Any

from casebook import Ctx, case, fails


def tree(x: Ctx, *names: str) -> Any:
    """Make a directory with files that hold their own name."""
    d = x.dag.directory()
    for name in names:
        d = d.with_new_file(name, name)
    return d


@case([["a/", "a/b/", "a/b/f", "c"], ["f"]])
async def directory_put_at_a_deep_place(x: Ctx) -> Any:
    d = tree(x, "c").with_directory("a/b", tree(x, "f"))
    return [await d.glob("**"), await d.directory("a/b").entries()]


@case(["sub/", "sub/x"])
async def part_of_a_directory_copied(x: Ctx) -> Any:
    src = tree(x, "one/sub/x", "one/y", "z")
    return await x.dag.directory().with_directory("/", src.directory("one"), exclude=["y"]).glob("**")


@case([["a.py", "n/", "n/b.py"], ["a.py"], ["n/", "n/c.txt"], ["n/", "n/b.py"]])
async def include_and_exclude_meet(x: Ctx) -> Any:
    src = tree(x, "a.py", "n/b.py", "n/c.txt")
    d = x.dag.directory()
    return [
        await d.with_directory("/", src, include=["**/*.py"]).glob("**"), await d.with_directory("/", src, include=["*.py"]).glob("**"),
        await d.with_directory("/", src, exclude=["**/*.py"]).glob("**"),
        await d.with_directory("/", src, include=["n"], exclude=["**/*.txt"]).glob("**"),
    ]  # fmt: skip


@case(["keep.log", "src/", "src/a"])
async def exclude_with_exceptions(x: Ctx) -> Any:
    return await tree(x, "a.log", "keep.log", "src/a", "src/b.log").filter(exclude=["**/*.log", "!keep.log"]).glob("**")


@case(["a", "deep/", "deep/er/", "deep/er/x.txt"])
async def filter_drops_directories_left_empty(x: Ctx) -> Any:
    return await tree(x, "a", "deep/er/x.txt", "other/y.py").filter(include=["a", "**/*.txt"]).glob("**")


@case([".gitignore", "kept"])
async def gitignore_of_the_tree_itself(x: Ctx) -> Any:
    d = tree(x, "kept", "drop.o", "out/x").with_new_file(".gitignore", "*.o\nout/\n")
    return await d.filter(gitignore=True).glob("**")


@case([["b"], ["a", "b"], "B"])
async def later_files_win(x: Ctx) -> Any:
    a, b = tree(x, "a", "b"), x.dag.directory().with_new_file("b", "B")
    merged = a.with_directory("/", b)
    return [await b.entries(), await merged.entries(), await merged.file("b").contents()]


@case([["f/", "f/x"], ["f"]])
async def directory_and_file_take_each_others_place(x: Ctx) -> Any:
    a = tree(x, "f")
    return [
        await a.without_file("f").with_directory("f", tree(x, "x")).glob("**"),
        await tree(x, "f/x").without_directory("f").with_new_file("f", "").glob("**"),
    ]


@case([["b"], ["a", "b"], []])
async def removing_by_pattern(x: Ctx) -> Any:
    d = tree(x, "a", "b")
    return [
        await d.without_files(["a*", "zzz"]).entries(),
        await d.without_directory("nope").entries(),
        await d.without_files(["*"]).entries(),
    ]


@case([[], ["m", "n"], []])
async def difference_of_directories(x: Ctx) -> Any:
    a = tree(x, "same", "gone").with_new_file("m", "1")
    b = tree(x, "same", "n").with_new_file("m", "2")
    return [await a.diff(a).glob("**"), await a.diff(b).glob("**"), await b.diff(tree(x, "same")).glob("**")]


@case(["sub/", "sub/new"])
async def difference_below_directories(x: Ctx) -> Any:
    a = tree(x, "sub/old")
    return await a.diff(a.with_new_file("sub/new", "n")).glob("**")


@case([["n/", "n/x"], ["mod"], ["d/"]])
async def changes_name_directories(x: Ctx) -> Any:
    a = tree(x, "d/one", "d/two", "same").with_new_file("mod", "1")
    ch = a.without_directory("d").with_new_file("mod", "2").with_new_file("n/x", "").changes(a)
    return [await ch.added_paths(), await ch.modified_paths(), await ch.removed_paths()]


@case([True, True, False])
async def digests_follow_content_not_history(x: Ctx) -> Any:
    a, b = tree(x, "1", "2"), tree(x, "2").with_new_file("1", "1")
    c = tree(x, "1", "2", "3").without_file("3")
    return [await a.digest() == await b.digest(), await a.digest() == await c.digest(), await a.digest() == await tree(x, "1").digest()]


@case([["a.txt", 1, 0, "x needle\n"], ["b/c.txt", 2, 4, "Needle needle\n"]])
async def search_tells_lines_and_offsets(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("a.txt", "x needle\n").with_new_file("b/c.txt", "one\nNeedle needle\n")
    found = await d.search("needle")
    return sorted([[await r.file_path(), await r.line_number(), await r.absolute_offset(), await r.matched_lines()] for r in found])


@case([2, 1, 1, 0, 1])
async def search_options(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("a.txt", "a.b\naxb\n").with_new_file("n/b.md", "A.B\n").with_new_file(".h", "zzz\n")
    return [
        len(await d.search("a.b")), len(await d.search("a.b", literal=True)), len(await d.search("a.b", limit=1)),
        len(await d.search("a\\.b", globs=["*.md"])), len(await d.search("a\\.b", paths=["n"], insensitive=True)),
    ]  # fmt: skip


@case(["one\nTWO\n", "made\n", False])
async def patch_changes_makes_and_removes(x: Ctx) -> Any:
    patch = (
        "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n one\n-two\n+TWO\n"
        "diff --git a/sub/new b/sub/new\nnew file mode 100644\n--- /dev/null\n+++ b/sub/new\n@@ -0,0 +1 @@\n+made\n"
        "diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-bye\n"
    )
    d = x.dag.directory().with_new_file("f", "one\ntwo\n").with_new_file("gone", "bye\n").with_patch(patch)
    return [await d.file("f").contents(), await d.file("sub/new").contents(), await d.exists("gone")]


@case(fails("RE:git apply: exit status 1.*"))
async def patch_that_does_not_fit(x: Ctx) -> Any:
    patch = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-other\n+new\n"
    return await x.dag.directory().with_new_file("f", "one\n").with_patch(patch).file("f").contents()


@case(["mark", "a/mark", None])
async def find_up_from_below(x: Ctx) -> Any:
    d = tree(x, "mark", "a/mark", "a/b/c/f")
    return [await d.find_up("mark", "."), await d.find_up("mark", "a/b/c"), await d.find_up("nope", "a/b/c")]


@case(["755 1000:50\n", "711\n"], single_uid=["755 0:0\n", "711\n"])
async def directory_keeps_mode_and_takes_owner(x: Ctx) -> Any:
    d = tree(x, "d/f").with_new_directory("m", permissions=0o711)
    c = x.base.with_directory("/o", d, owner="1000:50")
    return [await c.with_exec(["stat", "-c", "%a %u:%g", "/o/d"]).stdout(), await c.with_exec(["stat", "-c", "%a", "/o/m"]).stdout()]


@case(["777 1777 2755\n"])
async def directory_modes_of_a_step_are_kept(x: Ctx) -> Any:
    c = x.sh("mkdir -m 777 /a; mkdir -m 1777 /b; mkdir /c; chmod 2755 /c")
    return [await c.with_exec(["sh", "-c", "echo $(stat -c %a /a /b /c)"]).stdout()]


@case(["new\n", [], ["y"]])
async def step_removes_and_makes_again(x: Ctx) -> Any:
    c = x.base.with_directory("/d", tree(x, "sub/x", "sub/y"))
    again = c.with_exec(["sh", "-c", "rm -r /d/sub; mkdir /d/sub; echo new > /d/sub/z"]).with_exec(["sh", "-c", "cat /d/sub/*"])
    emptied = c.with_exec(["rm", "-r", "/d/sub"]).directory("/d")
    one = c.with_exec(["rm", "/d/sub/x"]).directory("/d/sub")
    return [await again.stdout(), await emptied.entries(), await one.entries()]


@case(["was a directory\n", ["f"]])
async def step_turns_a_directory_into_a_file_and_back(x: Ctx) -> Any:
    c = x.base.with_directory("/d", tree(x, "p/f")).with_exec(["sh", "-c", "rm -r /d/p; echo was a directory > /d/p"])
    back = c.with_exec(["sh", "-c", "rm /d/p; mkdir /d/p; echo > /d/p/f"])
    return [await c.file("/d/p").contents(), await back.directory("/d/p").entries()]


@case([["root-file", "x"], "x", True])
async def root_of_a_container_as_a_directory(x: Ctx) -> Any:
    c = x.dag.container().with_new_file("/root-file", "").with_new_file("/x", "x")
    return [await c.rootfs().entries(), await c.rootfs().file("x").contents(), await x.base.directory("/").exists("bin/sh")]


@case([3000, "f2999"])
async def many_entries(x: Ctx) -> Any:
    c = x.sh("mkdir /m; cd /m; seq 0 2999 | sed 's/^/f/' | xargs touch")
    names = await c.directory("/m").entries()
    return [len(names), max(names, key=lambda n: int(n[1:]))]


@case(fails("RE:.*f is a file, not a directory.*|RE:.*"))
async def directory_where_a_file_is(x: Ctx) -> Any:
    return await tree(x, "f").directory("f").directory("g").entries()


@case(["d", [".hidden", "seen"]])
async def hidden_files_are_ordinary(x: Ctx) -> Any:
    d = tree(x, ".hidden", "seen")
    return ["d", await d.entries()]
