"""What runs again and what does not, within a session, beside another one, and after it."""

import sys
from typing import Any

import anyio
import dagger
from casebook import Ctx, case

UUID = ["cat", "/proc/sys/kernel/random/uuid"]


def other_session() -> Any:
    """Open a second session of the same engine."""
    return dagger.Connection(dagger.Config(log_output=sys.stderr))


@case(True)
async def later_session_finds_what_ran(x: Ctx) -> Any:
    (x.tmp / "f").write_text(x.salt)

    async def run(dag: Any) -> Any:
        base = (
            dag.container()
            .with_rootfs(dag.host().directory(str(x.tmp)))
            .with_directory("/bin", dag.host().directory("/bin", include=["busybox"]))
        )
        return await base.with_env_variable("S", x.salt).with_exec(["/bin/busybox", *UUID]).stdout()

    here = await run(x.dag)
    async with other_session() as dag:
        return await run(dag) == here


@case(1)
async def sessions_side_by_side_run_once(x: Ctx) -> Any:
    found: list[str] = []

    async def run(dag: Any) -> None:
        c = dag.container().with_directory("/bin", dag.host().directory("/bin", include=["busybox"])).with_env_variable("S", x.salt)
        script = "/bin/busybox sleep 0.5; /bin/busybox cat /proc/sys/kernel/random/uuid"
        found.append(await c.with_exec(["/bin/busybox", "sh", "-c", script]).stdout())

    async with other_session() as second, anyio.create_task_group() as group:
        group.start_soon(run, x.dag)
        group.start_soon(run, second)
    return len(set(found))


@case([True, False, False, False])
async def every_setting_a_command_sees_counts(x: Ctx) -> Any:
    async def run(c: Any) -> Any:
        return await c.with_exec(UUID).stdout()

    plain = await run(x.fresh())
    return [
        plain == await run(x.fresh()), plain == await run(x.fresh().with_workdir("/tmp")), plain == await run(x.fresh().with_user("app")),
        plain == await run(x.fresh().with_env_variable("A", "")),
    ]  # fmt: skip


@case([False, False, False])
async def every_way_to_run_counts(x: Ctx) -> Any:
    any_code = dagger.ReturnType.ANY
    plain = await x.fresh().with_exec(UUID).stdout()
    return [
        plain == await x.fresh().with_exec(UUID, stdin="x").stdout(), plain == await x.fresh().with_exec(UUID, expect=any_code).stdout(),
        plain == await x.fresh().with_exec(UUID, redirect_stdout="/o").stdout(),
    ]  # fmt: skip


@case([True, False])
async def order_of_variables_counts_for_files_it_does_not(x: Ctx) -> Any:
    a = x.fresh().with_new_file("/1", "1").with_new_file("/2", "2")
    b = x.fresh().with_directory("/", x.dag.directory().with_new_file("1", "1").with_new_file("2", "2"))
    same_content = await a.directory("/").file("1").digest() == await b.directory("/").file("1").digest()
    c, d = (
        x.fresh().with_env_variable("A", "1").with_env_variable("B", "2"),
        x.fresh().with_env_variable("B", "2").with_env_variable("A", "1"),
    )
    return [same_content, await c.with_exec(UUID).stdout() == await d.with_exec(UUID).stdout()]


@case([True, False])
async def mounted_content_counts_not_where_it_comes_from(x: Ctx) -> Any:
    def made(text: str) -> Any:
        return x.dag.directory().with_new_file("f", text)

    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (x.tmp / name).mkdir()
        (x.tmp / name / "f").write_text(text)

    async def run(directory: Any) -> Any:
        return await x.fresh().with_mounted_directory("/m", directory).with_exec(UUID).stdout()

    a, b, c = [await run(x.dag.host().directory(str(x.tmp / n))) for n in "abc"]
    return [a == b, a == c]


@case([True, True], dagger=[True, False])
async def identical_result_stops_the_rebuild(x: Ctx) -> Any:
    """See that a step which makes the same file again does not run the next one when the file is taken out."""

    async def run(n: str) -> Any:
        built = x.fresh().with_env_variable("N", n).with_exec(["sh", "-c", "echo same > /out; touch -d @1 /out"]).file("/out")
        return await x.fresh().with_file("/in", built).with_exec(UUID).stdout()

    a, b = await run("1"), await run("2")
    return [True, a == b]


@case(["1\n", "1\n"])
async def concurrent_requests_share_one_run(x: Ctx) -> Any:
    v = x.dag.cache_volume("count" + x.salt)
    c = x.fresh().with_mounted_cache("/c", v).with_exec(["sh", "-c", "echo x >> /c/n; sleep 0.2; wc -l < /c/n"])
    found: list[str] = []

    async def ask() -> None:
        found.append(await c.stdout())

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(ask)
    return sorted(set(found)) * 2


@case([3, 3, "now\n"])
async def failure_runs_again_when_asked_again(x: Ctx) -> Any:
    v = x.dag.cache_volume("fail" + x.salt)
    c = x.fresh().with_mounted_cache("/c", v).with_exec(["sh", "-c", "echo x >> /c/n; [ $(wc -l < /c/n) -ge 3 ] || exit 3; echo now"])
    codes = []
    for _ in range(2):
        try:
            await c.stdout()
        except dagger.ExecError as e:
            codes.append(e.exit_code)
    return [*codes, await c.stdout()]


@case(["nothing ran", False])
async def nothing_runs_before_something_is_asked(x: Ctx) -> Any:
    v = x.dag.cache_volume("lazy" + x.salt)
    c = x.fresh().with_mounted_cache("/c", v)
    await c.with_exec(["sh", "-c", "echo ran > /c/f; exit 1"]).id()
    look = await c.with_exec(["sh", "-c", "cat /c/f 2>/dev/null || echo nothing ran"]).stdout()
    return [look.strip(), look.startswith("ran")]


@case([True, False])
async def host_file_by_content(x: Ctx) -> Any:
    async def run(text: str, name: str) -> Any:
        (x.tmp / name).mkdir()
        (x.tmp / name / "f").write_text(text)
        return await x.fresh().with_file("/f", x.dag.host().file(str(x.tmp / name / "f"))).with_exec(UUID).stdout()

    a, b, c = await run("same", "1"), await run("same", "2"), await run("other", "3")
    return [a == b, a == c]


@case([False, True], dagger=[False, False])
async def mode_counts_and_unused_files_do_not(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("f", "x")

    async def run(directory: Any) -> Any:
        return await x.fresh().with_directory("/d", directory.filter(include=["f"])).with_exec(UUID).stdout()

    plain = await run(d)
    loud = x.dag.directory().with_new_file("f", "x", permissions=0o755)
    return [plain == await run(loud), plain == await run(d.with_new_file("unused", "y"))]


@case([False, True])
async def timestamps_that_were_asked_for_count(x: Ctx) -> Any:
    f = x.dag.directory().with_new_file("f", "x").file("f")

    async def run(stamp: int) -> Any:
        return (
            await x.fresh()
            .with_file("/f", f.with_timestamps(stamp))
            .with_exec(["sh", "-c", "stat -c %Y /f; cat /proc/sys/kernel/random/uuid"])
            .stdout()
        )

    a, b, c = await run(1), await run(2), await run(1)
    return [a == b, a == c]
