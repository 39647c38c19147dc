"""What a container is told: environment, user, working directory, entrypoint, labels, ports, health checks."""

from typing import Any

import dagger
from casebook import Ctx, case, exec_fails, fails

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@case("a=b=c\n  spaced  \nline1\nline2\n")
async def environment_values_arrive_as_they_are(x: Ctx) -> Any:
    c = x.base.with_env_variable("E", "a=b=c").with_env_variable("S", "  spaced  ").with_env_variable("L", "line1\nline2")
    return await c.with_exec(["sh", "-c", 'echo "$E"; echo "$S"; echo "$L"']).stdout()


@case(["x-x-y", "literal $NOPE"])
async def environment_expands_what_is_set_so_far(x: Ctx) -> Any:
    c = x.base.with_env_variable("A", "x").with_env_variable("B", "$A-${A}-y", expand=True).with_env_variable("C", "literal $NOPE")
    return [await c.env_variable("B"), await c.env_variable("C")]


@case("[]\n")
async def environment_expands_the_unknown_to_nothing(x: Ctx) -> Any:
    return await x.base.with_env_variable("A", "[$NOPE_AT_ALL]", expand=True).with_exec(["sh", "-c", "echo $A"]).stdout()


@case(fails('expand cannot be used with secret env variable "S"'))
async def environment_never_expands_secrets(x: Ctx) -> Any:
    c = x.base.with_secret_variable("S", x.dag.set_secret("expand-secret", "v"))
    return await c.with_env_variable("A", "$S", expand=True).env_variable("A")


@case(fails('expand cannot be used with volatile env variable "V"'))
async def environment_never_expands_the_volatile(x: Ctx) -> Any:
    return await x.base.with_volatile_variable("V", "1").with_exec(["echo", "$V"], expand=True).stdout()


@case([None, PATH, ["PATH"]])
async def environment_removed_and_listed(x: Ctx) -> Any:
    c = x.base.with_env_variable("A", "1").without_env_variable("A").without_env_variable("NEVER")
    return [await c.env_variable("A"), await c.env_variable("PATH"), [await v.name() for v in await c.env_variables()]]


@case("/root /\n")
async def container_from_scratch_has_a_path_and_home(x: Ctx) -> Any:
    c = x.dag.container().with_rootfs(x.base.rootfs())
    return await c.with_exec(["sh", "-c", "echo $HOME $PWD"]).stdout()


@case("/elsewhere\n")
async def home_that_was_set_stays(x: Ctx) -> Any:
    return await x.base.with_env_variable("HOME", "/elsewhere").with_exec(["sh", "-c", "echo $HOME"]).stdout()


@case(["1\n", "gone\n"])
async def volatile_variables_are_seen_and_removed(x: Ctx) -> Any:
    c = x.fresh().with_volatile_variable("V", "1")
    seen = await c.with_exec(["sh", "-c", "echo $V"]).stdout()
    return [seen, await c.without_volatile_variable("V").with_exec(["sh", "-c", "echo ${V:-gone}"]).stdout()]


@case("1000 1000\n")
async def user_by_number_takes_the_group_of_the_user(x: Ctx) -> Any:
    return await x.base.with_user("1000").with_exec(["sh", "-c", "echo $(id -u) $(id -g)"]).stdout()


@case("1000 50\n")
async def user_and_group_by_name(x: Ctx) -> Any:
    return await x.base.with_user("app:staff").with_exec(["sh", "-c", "echo $(id -u) $(id -g)"]).stdout()


@case("4321 0\n")
async def user_number_without_an_entry(x: Ctx) -> Any:
    return await x.base.with_user("4321").with_exec(["sh", "-c", "echo $(id -u) $(id -g)"]).stdout()


@case(exec_fails(-1, message="RE:.*unable to find group ghosts.*"))
async def group_unknown(x: Ctx) -> Any:
    return await x.base.with_user("app:ghosts").with_exec(["id"]).stdout()


@case(["app", "", "0\n"])
async def user_removed(x: Ctx) -> Any:
    c = x.base.with_user("app")
    return [await c.user(), await c.without_user().user(), await c.without_user().with_exec(["id", "-u"]).stdout()]


@case("refused\n", single_uid="wrote\n")
async def user_cannot_write_what_is_roots(x: Ctx) -> Any:
    script = "(echo x > /etc/base-release) 2>/dev/null && echo wrote || echo refused"
    return await x.base.with_user("app").with_exec(["sh", "-c", script]).stdout()


@case("app\n")
async def user_added_by_a_step_can_be_used(x: Ctx) -> Any:
    c = x.sh("echo 'late:x:1000:1000::/home/app:/bin/sh' > /etc/passwd2; cat /etc/passwd2 >> /etc/passwd")
    return await c.with_user("late").with_exec(["id", "-un"]).stdout()


@case(["/a/", "/a/b", "/x/y/..", "/a", ""])
async def workdirs_join_and_absolute_ones_stay(x: Ctx) -> Any:
    c = x.base.with_workdir("/a/")
    return [
        await c.workdir(), await c.with_workdir("./b/").workdir(), await c.with_workdir("/x/y/..").workdir(),
        await c.with_workdir("b/..").workdir(), await c.without_workdir().workdir(),
    ]  # fmt: skip


@case("/v/w\n")
async def workdir_expands(x: Ctx) -> Any:
    return await x.base.with_env_variable("D", "w").with_workdir("/v/$D", expand=True).with_exec(["pwd"]).stdout()


@case("/home/app\n")
async def workdir_that_is_a_symlink(x: Ctx) -> Any:
    return await x.base.with_symlink("/home/app", "/l").with_workdir("/l").with_exec(["pwd", "-P"]).stdout()


@case([["e"], [], [], ["d"]])
async def entrypoint_and_default_args_removed(x: Ctx) -> Any:
    c = x.base.with_entrypoint(["e"]).with_default_args(["d"])
    return [
        await c.without_default_args().entrypoint(), await c.without_default_args().default_args(),
        await c.without_entrypoint().default_args(), await c.without_entrypoint(keep_default_args=True).default_args(),
    ]  # fmt: skip


@case(["one two\n", "one three\n"])
async def entrypoint_takes_default_args_or_given_ones(x: Ctx) -> Any:
    c = x.base.with_entrypoint(["echo", "one"]).with_default_args(["two"])
    return [await c.with_exec([], use_entrypoint=True).stdout(), await c.with_exec(["three"], use_entrypoint=True).stdout()]


@case([[["a", "2"], ["org.opencontainers.image.title", "conformance"]], "2"])
async def labels_replace(x: Ctx) -> Any:
    c = x.base.with_label("a", "1").with_label("a", "2")
    return [sorted([[await v.name(), await v.value()] for v in await c.labels()]), await c.label("a")]


@case([[[80, "TCP", "b"]], [], True])
async def ports_replace_and_go(x: Ctx) -> Any:
    c = x.base.with_exposed_port(80, description="a").with_exposed_port(80, description="b")
    udp = dagger.NetworkProtocol.UDP
    skipped = await c.with_exposed_port(81, experimental_skip_healthcheck=True).exposed_ports()
    return [
        [[await p.port(), (await p.protocol()).value, await p.description()] for p in await c.exposed_ports()],
        await c.without_exposed_port(80).without_exposed_port(80, protocol=udp).exposed_ports(),
        await skipped[1].experimental_skip_healthcheck(),
    ]  # fmt: skip


@case([["true"], False, "3s", 4])
async def health_checks_are_kept(x: Ctx) -> Any:
    check = x.base.with_docker_healthcheck(["true"], interval="3s", retries=4).docker_healthcheck()
    return [await check.args(), await check.shell(), await check.interval(), await check.retries()]


@case(fails("not today"))
async def errors_on_purpose_wait_until_something_is_asked(x: Ctx) -> Any:
    return await x.base.with_error("not today").with_exec(["true"]).stdout()


@case(["linux/s390x", "linux/arm64/v8"])
async def other_platforms_are_kept(x: Ctx) -> Any:
    return [await x.dag.container(platform=dagger.Platform(p)).platform() for p in ("linux/s390x", "linux/arm64/v8")]
