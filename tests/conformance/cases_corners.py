"""Corners of directories, files and plain values, as the source of Dagger's engine v0.21.8 has them."""

from typing import Any

import dagger
from casebook import Ctx, case, fails


@case([["a/", "a-b", "a.b"], ["a/", "a/x", "a-b", "a.b"]])
async def names_are_sorted_without_the_slash(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("a.b", "").with_new_file("a-b", "").with_new_file("a/x", "")
    return [await d.entries(), await d.glob("**")]


@case([["a.py", "s/c.py"], ["a.py"], [], [], ["s/"]])
async def globs_are_tidied_first(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("a.py", "").with_new_file("s/c.py", "")
    return [await d.glob(pattern) for pattern in ("**.py", " ./*.py ", "/s/*.py", "!a.py", "s/")]


@case(fails("failed to create glob pattern matcher: empty pattern"))
async def glob_of_nothing(x: Ctx) -> Any:
    return await x.dag.directory().with_new_file("a", "").glob("")


@case(fails("failed to create glob pattern matcher: syntax error in pattern"))
async def glob_with_an_open_class(x: Ctx) -> Any:
    return await x.dag.directory().with_new_file("a", "").glob("[")


@case(["a.py", "s/c.py"])
async def double_star_before_a_suffix_crosses_directories(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("a.py", "").with_new_file("s/c.py", "").with_new_file("s/t", "").filter(include=["**.py"])
    return [path for path in await d.glob("**") if not path.endswith("/")]


@case([["q"], []])
async def only_a_star_makes_a_path_to_remove_a_pattern(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("q", "")
    return [await d.without_file("?").entries(), await d.without_file("*").entries()]


@case([384, 420, 493, "new"])
async def written_over_a_file_keeps_its_mode(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("f", "old", permissions=0o600).with_new_file("f", "new")
    d = d.with_new_file("zero", "", permissions=0).with_new_file("suid", "", permissions=0o4755)
    return [*[await d.stat(name).permissions() for name in ("f", "zero", "suid")], await d.file("f").contents()]


@case([448, 448])
async def directories_above_get_the_same_permissions(x: Ctx) -> Any:
    d = x.dag.directory().with_new_directory("a/b", permissions=0o700)
    return [await d.stat("a").permissions(), await d.stat("a/b").permissions()]


@case(fails("cannot create directory outside parent: ../b"))
async def directory_that_climbs_out(x: Ctx) -> Any:
    return await x.dag.directory().with_new_directory("a/../../b").entries()


@case(["d/", "f", "l"])
async def paths_that_climb_stay_at_the_root(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("../f", "").with_symlink("f", "../l")
    return await d.with_directory("../d", x.dag.directory()).entries()


@case(["sub/", "sub/", "/"])
async def changed_directory_keeps_its_name(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("sub/f", "").directory("sub")
    return [await d.with_new_file("q", "").name(), await d.without_file("f").name(), await d.filter(include=["f"]).name()]


@case([["f"], "v"])
async def error_without_words_is_none(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("f", "")
    return [await d.with_error("").entries(), await x.base.with_env_variable("K", "v").with_error("").env_variable("K")]


@case(["/a/m", "a/m", "m", None])
async def found_above_in_the_form_of_the_start(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("a/m", "").with_new_file("a/b/x", "").with_new_file("m", "")
    return [await d.find_up("m", "/a/b"), await d.find_up("m", "a/b"), await d.find_up("m", ""), await d.find_up("none", "a/b")]


@case(fails("name cannot be empty"))
async def find_up_without_a_name(x: Ctx) -> Any:
    return await x.dag.directory().find_up("", "a")


@case("m")
async def find_up_from_nowhere(x: Ctx) -> Any:
    return await x.dag.directory().with_new_file("m", "").find_up("m", "nowhere")


@case(["aXbX", "a", "a\nX\nX\n", "XaXbX"])
async def every_occurrence_replaced(x: Ctx) -> Any:
    def file(text: str) -> Any:
        return x.dag.directory().with_new_file("f", text).file("f")

    every = [file("a-b-").with_replaced("-", "X", all=True), file("a").with_replaced("z", "X", all=True)]
    every += [file("a\na\na\n").with_replaced("a", "X", all=True, first_from=2), file("ab").with_replaced("", "X", all=True)]
    return [await f.contents() for f in every]


@case([0o600, "new"])
async def file_exported_over_a_file_keeps_its_mode(x: Ctx) -> Any:
    old = x.tmp / "old"
    old.write_text("something longer")
    old.chmod(0o600)
    await x.dag.file("f", "new").export(str(old))
    return [old.stat().st_mode & 0o777, old.read_text()]


@case(["t", "REGULAR", "l", "SYMLINK", 493, False])
async def stat_follows_to_the_target(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("t", "", permissions=0o755).with_symlink("t", "l")
    followed, itself = d.stat("l"), d.stat("l", do_not_follow_symlinks=True)
    kinds = [(await s.file_type()).name for s in (followed, itself)]
    return [await followed.name(), kinds[0], await itself.name(), kinds[1], await d.stat("t").permissions(), await d.exists("")]


@case(fails("stat none: no such file or directory"))
async def stat_of_nothing(x: Ctx) -> Any:
    return await x.dag.directory().with_new_file("a", "").stat("none").size()


@case(["l1\nl2\n", "l1\nl2\n", "a\rb\n"])
async def negative_lines_mean_all(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("f", "l1\nl2\n").with_new_file("cr", "a\rb\nc")
    f = d.file("f")
    return [await f.contents(offset_lines=-1), await f.contents(limit_lines=-1), await d.file("cr").contents(limit_lines=1)]


@case(fails('file name "a/b" must not contain a directory'))
async def file_renamed_into_a_directory(x: Ctx) -> Any:
    return await x.dag.file("f", "").with_name("a/b").name()


@case(["g", "g"])
async def renamed_file_has_its_name_everywhere(x: Ctx) -> Any:
    f = x.dag.directory().with_new_file("d/f", "").file("d/f").with_name("g")
    return [await f.name(), await f.stat().name()]


@case(["over", [], "/under: no such"])
async def what_takes_a_mounts_place(x: Ctx) -> Any:
    inside = x.dag.directory().with_new_file("in", "")
    c = x.base.with_mounted_file("/f", x.dag.file("m", "mounted")).with_new_file("/f", "over")
    gone = x.base.with_mounted_directory("/under", inside).without_directory("/under")
    there = "/under: no such" if not await gone.exists("/under") else "still there"
    return [await c.file("/f").contents(), await c.mounts(), there]


@case(fails("failed to locate path /c/f: /c/f: cannot retrieve path from cache"))
async def file_put_into_a_cache_volume(x: Ctx) -> Any:
    return await x.base.with_mounted_cache("/c", x.dag.cache_volume("corner")).with_new_file("/c/f", "").sync()


@case([' { "b" : 1.0 } ', '{"a":1,"b":[1,"\\u003cx\\u003e"]}', "", 0, "{}"])
async def json_is_kept_as_written_until_it_is_changed(x: Ctx) -> Any:
    json = x.dag.json
    given = json().with_contents(dagger.JSON(' { "b" : 1.0 } '))
    deep = json().with_contents(dagger.JSON('{"q": {"b": [1.0, "<x>"], "a": 1}}')).field(["q"])
    nothing = json()
    empty = nothing.with_field([], json().new_integer(5))
    return [await given.contents(), await deep.contents(), await nothing.as_string(), await nothing.as_integer(), await empty.contents()]


@case(fails("no such field: 'x'"))
async def json_field_that_is_not_there(x: Ctx) -> Any:
    return await x.dag.json().with_contents(dagger.JSON('{"a": 1}')).field(["x"]).contents()


@case(fails("can't lookup field 'x' in non-object value"))
async def json_field_of_a_number(x: Ctx) -> Any:
    return await x.dag.json().with_contents(dagger.JSON('{"a": 1}')).field(["a", "x"]).contents()


@case(["last-b", "a # b", "A=last\nB=b\nC=$A-$B\n", ["A", "B"]])
async def variables_of_a_file_in_any_order(x: Ctx) -> Any:
    later = x.dag.file(".env", "C=$A-$B\nA=first\nB=b\nA=last\n").as_env_file()
    literal = x.dag.file(".env", "V=a # b\n").as_env_file()
    made = x.dag.env_file().with_variable("A", "first").with_variable("B", "b").with_variable("C", "$A-$B").with_variable("A", "last")
    inside = x.dag.file(".env", "MY_APP_A=1\nmyapp_B=2\nMYAPPC=3\n").as_env_file().namespace("myApp")
    names = [await v.name() for v in await inside.variables()]
    return [await later.get("C"), await literal.get("V"), await made.as_file().contents(), names]


@case(fails("RE:.*NOWHERE: unbound variable"))
async def variable_of_a_file_without_a_value(x: Ctx) -> Any:
    return await x.dag.env_file().with_variable("A", "$NOWHERE").get("A")


@case([["a", "l"], "two\n"])
async def patch_over_a_symlink(x: Ctx) -> Any:
    old = x.dag.directory().with_new_file("a", "one\n").with_symlink("a", "l")
    new = x.dag.directory().with_new_file("a", "two\n").with_symlink("b", "l")
    done = old.with_patch_file(new.changes(old).as_patch())
    return [await done.with_patch("").entries(), await done.file("a").contents()]


@case([["711", "711", "711"], "755"])
async def permissions_of_a_directory_put_into_another(x: Ctx) -> Any:
    d = x.dag.directory().with_directory("o/p", x.dag.directory().with_new_file("s/f", ""), permissions=0o711)
    found = [format(await d.stat(path).permissions(), "o") for path in ("o/p", "o/p/s", "o/p/s/f")]
    return [found, format(await d.stat("o").permissions(), "o")]


@case([["o/", "o/f", "sub/", "sub/g"], "0:0 5:6\n"], single_uid=[["o/", "o/f", "sub/", "sub/g"], "0:0 0:0\n"])
async def directory_takes_a_files_place_and_no_owner_above(x: Ctx) -> Any:
    src = x.dag.directory().with_new_file("o/f", "").with_new_file("sub/g", "")
    d = (
        x.dag.directory()
        .with_new_file("o", "file")
        .with_directory("o", src.directory("o"))
        .with_new_file("sub", "file")
        .with_directory("", src)
    )
    owned = x.base.with_directory("/d", x.dag.directory().with_file("q/r", src.file("o/f"), owner="5:6"))
    return [await d.glob("**"), await owned.with_exec(["sh", "-c", "echo $(stat -c %u:%g /d/q /d/q/r)"]).stdout()]


@case([["a.py", "s/", "s/t/", "s/t/d.py"], "l/"])
async def two_stars_remove_as_one_does(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("a.py", "").with_new_file("s/c.py", "").with_new_file("s/t/d.py", "")
    return [await d.without_file("**/*.py").glob("**"), await d.with_symlink("s", "l").directory("l").name()]


@case([True, True, "stat /no: no such file or directory"])
async def root_of_a_container_exists(x: Ctx) -> Any:
    try:
        said = str(await x.base.stat("/no").size())
    except dagger.QueryError as e:
        said = str(e).partition(" [traceparent")[0]
    return [await x.base.exists("/"), await x.base.exists(""), said]


@case(["/z"])
async def secrets_are_not_listed_as_mounts(x: Ctx) -> Any:
    return await x.base.with_mounted_temp("/z").with_mounted_secret("/s", x.dag.set_secret("corner-s", "v")).mounts()


@case("1000:50\n", single_uid="0:0\n")
async def mounted_file_has_the_owner_given(x: Ctx) -> Any:
    c = x.base.with_mounted_file("/f", x.dag.file("f", ""), owner="app:staff")
    return await c.with_exec(["stat", "-c", "%u:%g", "/f"]).stdout()


@case(["1--1-\\1-", "$    x", "A", "n\n"])
async def expansion_is_that_of_go(x: Ctx) -> Any:
    c = x.base.with_env_variable("A", "1")
    texts = ("${A}-${NO:-d}-$A-\\$A-$$", "$ $1 $@ ${} $-x", "${A")
    seen = [await c.with_env_variable("B", text, expand=True).env_variable("B") for text in texts]
    return [*seen, await c.with_exec(["echo", "n"], redirect_stdout="/f$A", expand=True).file("/f1").contents()]


@case("***\n")
async def secret_wins_over_a_variable_set_later(x: Ctx) -> Any:
    c = x.base.with_secret_variable("K", x.dag.set_secret("corner-k", "one-value")).with_env_variable("K", "plain")
    return await c.with_exec(["sh", "-c", "echo $K"]).stdout()


@case(fails("WithHealthcheck args must be a single element when shell mode is set"))
async def health_check_of_a_shell_is_one_text(x: Ctx) -> Any:
    return await x.base.with_docker_healthcheck(["a", "b"], shell=True).docker_healthcheck().args()
