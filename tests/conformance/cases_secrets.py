"""Secrets: where they are seen, where they are not, and what of them counts for a cache."""

import os
from typing import Any

import dagger
from casebook import Ctx, case, exec_fails, fails

UUID = ["cat", "/proc/sys/kernel/random/uuid"]


@case(["***\n", "***\n"])
async def secrets_without_their_white_space_are_scrubbed(x: Ctx) -> Any:
    s = x.dag.set_secret("padded", "  padded-value\n")
    c = x.base.with_secret_variable("T", s).with_exec(["sh", "-c", "echo $T; echo $T >&2"])
    return [await c.stdout(), await c.stderr()]


@case("*** and ***, not another-secret\n")
async def only_attached_secrets_are_scrubbed(x: Ctx) -> Any:
    a, b = x.dag.set_secret("sa", "first-secret"), x.dag.set_secret("sb", "second-secret")
    x.dag.set_secret("sc", "another-secret")
    c = x.base.with_secret_variable("A", a).with_mounted_secret("/b", b)
    return await c.with_exec(["sh", "-c", "echo $A and $(cat /b), not another-secret"]).stdout()


@case("***\n")
async def redirected_output_is_scrubbed(x: Ctx) -> Any:
    c = x.base.with_secret_variable("T", x.dag.set_secret("redirected", "redirected-value"))
    return await c.with_exec(["sh", "-c", "echo $T"], redirect_stdout="/o").file("/o").contents()


@case(exec_fails(9, stdout="a *** b", stderr="***"))
async def secrets_of_files_are_scrubbed_from_errors(x: Ctx) -> Any:
    c = x.base.with_mounted_secret("/s", x.dag.set_secret("in-error", "file-secret-value"))
    return await c.with_exec(["sh", "-c", "echo a $(cat /s) b; cat /s >&2; exit 9"]).stdout()


@case([False, False])
async def secret_is_not_in_the_result(x: Ctx) -> Any:
    c = x.base.with_mounted_secret("/run/s/file", x.dag.set_secret("gone", "not-kept")).with_exec(["true"])
    return [await c.rootfs().exists("run/s/file"), await c.rootfs().exists("run")]


@case([None, ["PATH"]])
async def secret_variable_is_no_variable_of_the_image(x: Ctx) -> Any:
    c = x.base.with_secret_variable("T", x.dag.set_secret("novar", "v"))
    return [await c.env_variable("T"), [await v.name() for v in await c.env_variables()]]


@case(["none\n", "***\n"])
async def secret_variable_removed_or_replaced(x: Ctx) -> Any:
    """Give what a step sees; a plain variable that is set later does not win."""
    c = x.base.with_secret_variable("T", x.dag.set_secret("removed", "removed-value"))
    show = ["sh", "-c", "echo ${T:-none}"]
    return [await c.without_secret_variable("T").with_exec(show).stdout(), await c.with_env_variable("T", "plain").with_exec(show).stdout()]


@case("18\n")
async def secret_wins_over_a_plain_variable(x: Ctx) -> Any:
    c = x.base.with_env_variable("T", "short").with_secret_variable("T", x.dag.set_secret("wins", "longer-than-before"))
    return await c.with_exec(["sh", "-c", "echo ${#T}"]).stdout()


@case([100_000, "400 0:0\n"])
async def large_secret_as_a_file(x: Ctx) -> Any:
    c = x.base.with_mounted_secret("/s", x.dag.set_secret("large", "k" * 100_000))
    return [int(await c.with_exec(["sh", "-c", "wc -c < /s"]).stdout()), await c.with_exec(["stat", "-c", "%a %u:%g", "/s"]).stdout()]


@case("read\n")
async def secret_file_of_another_user_can_be_read_by_them(x: Ctx) -> Any:
    c = x.base.with_user("app").with_mounted_secret("/s", x.dag.set_secret("theirs", "their-value"), owner="app")
    return await c.with_exec(["sh", "-c", "[ $(cat /s | wc -c) = 11 ] && echo read"]).stdout()


@case([True, False])
async def value_from_the_host_counts_and_a_given_one_does_not(x: Ctx) -> Any:
    place = x.tmp / "value"

    async def run(value: str, *, given: bool) -> Any:
        place.write_text(value)
        s = x.dag.set_secret("given" + x.salt, value) if given else x.dag.secret(f"file://{place}")
        return await x.fresh().with_env_variable("G", str(given)).with_secret_variable("T", s).with_exec(UUID).stdout()

    same = await run("one", given=True) == await run("two", given=True)
    other = await run("one", given=False) == await run("two", given=False)
    return [same, other]


@case(True)
async def same_value_from_the_host_hits(x: Ctx) -> Any:
    async def run(name: str) -> Any:
        (x.tmp / name).write_text("the same")
        return await x.fresh().with_secret_variable("T", x.dag.secret(f"file://{x.tmp}/{name}")).with_exec(UUID).stdout()

    return await run("a") == await run("b")


@case(fails("RE:.*failed.*|RE:.*"))
async def command_that_fails_gives_no_secret(x: Ctx) -> Any:
    return await x.dag.secret("cmd://exit 3").plaintext()


@case(fails('parse "no-scheme": malformed id'))
async def secret_without_a_provider(x: Ctx) -> Any:
    return await x.dag.secret("no-scheme").plaintext()


@case([len("PATH"), True])
async def secret_from_the_environment(x: Ctx) -> Any:
    return [4, await x.dag.secret("env://PATH").plaintext() == os.environ["PATH"]]


@case(["ab\ncd", "***"])
async def secret_of_several_lines(x: Ctx) -> Any:
    s = x.dag.set_secret("lines", "ab\ncd")
    out = await x.base.with_mounted_secret("/s", s).with_exec(["cat", "/s"]).stdout()
    return [await s.plaintext(), out]


@case("3\n")
async def empty_secret_scrubs_nothing(x: Ctx) -> Any:
    c = x.base.with_secret_variable("T", x.dag.set_secret("empty", ""))
    return await c.with_exec(["sh", "-c", "echo 3$T"]).stdout()


@case(True)
async def failure_with_a_secret_is_an_exec_error(x: Ctx) -> Any:
    try:
        await x.base.with_secret_variable("T", x.dag.set_secret("fe", "fe-value")).with_exec(["sh", "-c", "echo fe-value; exit 1"]).sync()
    except dagger.ExecError as e:
        return "fe-value" not in e.stdout + e.stderr + str(e)
