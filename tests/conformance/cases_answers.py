"""What a running Dagger engine v0.21.8 answered where its documentation says nothing."""

import subprocess
from typing import Any

import dagger
from casebook import Ctx, case, exec_fails, fails

LIST = "cd /d && find . | sort | xargs stat -c '%n %a %F'"


def failed(x: Ctx) -> Any:
    """Give a container whose command fails."""
    return x.fresh().with_exec(["sh", "-c", "echo said; exit 3"])


# --- commands ------------------------------------------------------------------------------------------------------
@case(["600\n", "mine\n", "640 kept\n"])
async def redirects_are_the_users_own(x: Ctx) -> Any:
    mode = x.base.with_exec(["echo"], redirect_stdout="/o").with_exec(["stat", "-c", "%a", "/o"])
    mine = x.base.with_user("app").with_exec(["echo", "mine"], redirect_stdout="/tmp/o").with_exec(["cat", "/tmp/o"])
    there = x.base.with_new_file("/o", "old", permissions=0o640).with_exec(["echo", "kept"], redirect_stdout="/o")
    return [await mode.stdout(), await mine.stdout(), await there.with_exec(["sh", "-c", "stat -c %a /o | tr '\\n' ' '; cat /o"]).stdout()]


@case(exec_fails(-1, message="RE:open redirect stdout file: open .*no/such: no such file or directory"))
async def redirect_to_nowhere(x: Ctx) -> Any:
    return await x.base.with_exec(["true"], redirect_stdout="/no/such").sync()


@case(exec_fails(-1, message="get user: uids and gids must be in range 0-2147483647"))
async def user_of_too_large_a_number(x: Ctx) -> Any:
    return await x.base.with_user("4294967296").with_exec(["true"]).sync()


@case([3, 3, 3, 3, 3, 3, 3, 3, 3])
async def a_failed_command_is_told_to_whoever_asks(x: Ctx) -> Any:
    c = failed(x)
    asked = (
        c.env_variable("PATH"), c.label("a"), c.labels(), c.workdir(), c.user(), c.entrypoint(), c.default_args(), c.platform(), c.mounts(),
    )  # fmt: skip
    return [await _code(a) for a in asked]


async def _code(asked: Any) -> int:
    try:
        await asked
    except dagger.ExecError as e:
        return int(e.exit_code)
    return 0


# --- settings ------------------------------------------------------------------------------------------------------
@case(["1m0s", "1h0m0s", "1.5s", "250ms", 3])
async def durations_of_a_health_check(x: Ctx) -> Any:
    c = x.base.with_docker_healthcheck(["true"], interval="60s", timeout="1h", start_period="1500ms", start_interval="0.25s", retries=3)
    h = c.docker_healthcheck()
    return [await h.interval(), await h.timeout(), await h.start_period(), await h.start_interval(), await h.retries()]


@case(["0s", "0s", 0, False])
async def durations_that_nobody_gave(x: Ctx) -> Any:
    h = x.base.with_docker_healthcheck(["true"]).docker_healthcheck()
    return [await h.interval(), await h.timeout(), await h.retries(), await h.shell()]


@case(fails('time: invalid duration "soon"'))
async def duration_that_is_none(x: Ctx) -> Any:
    return await x.base.with_docker_healthcheck(["true"], interval="soon").docker_healthcheck().interval()


@case(["linux/amd64", "linux/amd64", "linux/arm64/v8", "linux/arm64"])
async def platforms_by_other_names(x: Ctx) -> Any:
    names = ("amd64", "linux/x86_64", "linux/arm64/v8", "linux/aarch64")
    return [await x.dag.container(platform=dagger.Platform(n)).platform() for n in names]


@case([[9000, None], [80, "other"], [22, None]])
async def port_described_again_keeps_its_place(x: Ctx) -> Any:
    c = x.base.with_exposed_port(9000).with_exposed_port(80, description="web").with_exposed_port(22)
    return [[await p.port(), await p.description()] for p in await c.with_exposed_port(80, description="other").exposed_ports()]


# --- files ---------------------------------------------------------------------------------------------------------
@case(". 755 directory\n./a 644 regular empty file\n./sub 700 directory\n./sub/b 644 regular empty file\n")
async def directories_take_the_attributes_of_what_is_copied(x: Ctx) -> Any:
    src = x.dag.directory().with_new_file("a", "").with_new_directory("sub", permissions=0o700).with_new_file("sub/b", "")
    c = x.base.with_exec(["sh", "-c", "mkdir -p /d/sub; chmod 711 /d; chmod 777 /d/sub"]).with_directory("/d", src)
    return await c.with_exec(["sh", "-c", LIST]).stdout()


@case("/ 755\n")
async def the_root_keeps_its_attributes(x: Ctx) -> Any:
    top = x.dag.directory().with_new_directory("t", permissions=0o700).with_new_file("t/f", "").directory("t")
    return await x.base.with_directory("/", top).with_exec(["stat", "-c", "%n %a", "/"]).stdout()


@case([["t"], "old", "new"])
async def new_file_takes_a_links_place(x: Ctx) -> Any:
    c = x.base.with_new_file("/d/t", "old").with_symlink("t", "/d/x").with_new_file("/d/x", "new")
    links = await c.with_exec(["sh", "-c", "cd /d; for f in *; do [ -L $f ] || echo $f; done"]).stdout()
    return [[n for n in links.split() if n != "x"], await c.file("/d/t").contents(), await c.file("/d/x").contents()]


@case([["t", "u"], ["t"]])
async def new_file_onto_a_directory_goes_into_it(x: Ctx) -> Any:
    onto = x.base.with_new_file("/d/t/u", "").with_new_file("/d/t", "")
    return [await onto.directory("/d/t").entries(), await x.base.with_new_file("/d/t/", "").directory("/d/t").entries()]


@case(". 755 directory\n./l 755 directory\n./l/f 644 regular empty file\n")
async def directory_takes_the_place_of_a_link_to_nowhere(x: Ctx) -> Any:
    return await x.base.with_symlink("none", "/d/l").with_new_file("/d/l/f", "").with_exec(["sh", "-c", LIST]).stdout()


@case(["bin", "usr/", "usr/bin/", "usr/bin/own", "usr/bin/tool"])
async def directory_goes_where_a_link_leads(x: Ctx) -> Any:
    merged = x.dag.directory().with_new_file("usr/bin/own", "").with_symlink("usr/bin", "bin")
    return await merged.with_directory("/", x.dag.directory().with_new_file("bin/tool", "")).glob("**")


@case(fails('cannot copy directory to non-directory "/d/t"'))
async def new_file_below_a_file(x: Ctx) -> Any:
    return await x.base.with_new_file("/d/t", "").with_new_file("/d/t/u", "").sync()


@case(fails("failed to resolve ownership for ghost: find uid: no such user: ghost"))
async def owner_that_nobody_is(x: Ctx) -> Any:
    return await x.base.with_new_file("/f", "", owner="ghost").sync()


@case([1, "SYMLINK", 4096, "DIRECTORY"])
async def sizes_of_what_is_no_file(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("s/f", "").with_symlink("s", "l")
    link, folder = d.stat("l", do_not_follow_symlinks=True), d.stat("s")
    return [await link.size(), (await link.file_type()).value, await folder.size(), (await folder.file_type()).value]


@case("755\n")
async def a_directory_of_the_host_has_a_mode_of_its_own(x: Ctx) -> Any:
    (x.tmp / "h").mkdir(mode=0o700)
    (x.tmp / "h" / "f").write_text("")
    return await x.base.with_directory("/d", x.dag.host().directory(str(x.tmp / "h"))).with_exec(["stat", "-c", "%a", "/d"]).stdout()


# --- mounts --------------------------------------------------------------------------------------------------------
@case(["name", "sub/"])
async def what_is_mounted_keeps_its_name(x: Ctx) -> Any:
    d = x.dag.directory().with_new_file("name", "").with_new_file("sub/x", "")
    file = x.base.with_mounted_file("/f", d.file("name")).file("/f")
    return [await file.name(), await x.base.with_mounted_directory("/m", d.directory("sub")).directory("/m").name()]


@case("refused\n")
async def secret_file_cannot_be_written(x: Ctx) -> Any:
    c = x.base.with_mounted_secret("/s", x.dag.set_secret("written", "v"), mode=0o600)
    return await c.with_exec(["sh", "-c", "(echo q > /s) 2>/dev/null || echo refused"]).stdout()


@case(["1000 1000\n", "f\n"], single_uid=["0 0\n", "f\n"])
async def seeds_of_a_volume_are_the_owners(x: Ctx) -> Any:
    seed = x.dag.directory().with_new_file("f", "")
    c = x.fresh().with_mounted_cache("/c", x.dag.cache_volume("seeded-" + x.salt), source=seed, owner="app")
    return [await c.with_exec(["stat", "-c", "%u %g", "/c/f"]).stdout(), await c.with_exec(["ls", "/c"]).stdout()]


@case(["one\n", "two\n"])
async def another_seed_is_another_volume(x: Ctx) -> Any:
    volume = x.dag.cache_volume("seeds-" + x.salt)
    seeds = [x.dag.directory().with_new_file(name, "") for name in ("one", "two")]
    return [await x.fresh().with_mounted_cache("/c", volume, source=s).with_exec(["ls", "/c"]).stdout() for s in seeds]


@case(fails("failed to locate path /t: /t: cannot retrieve path from tmpfs"))
async def whether_a_temporary_mount_exists(x: Ctx) -> Any:
    return await x.base.with_mounted_temp("/t").exists("/t")


# --- secrets -------------------------------------------------------------------------------------------------------
@case(["", "env://NOT_SET_HERE", 'RE:.*secret env var not found: "NOT..."'])
async def secret_of_the_host_is_read_when_it_is_needed(x: Ctx) -> Any:
    s = x.dag.secret("env://NOT_SET_HERE")
    said = [await s.name(), await s.uri()]
    try:
        await s.plaintext()
    except dagger.QueryError as e:
        return [*said, str(e).partition(" [")[0]]


@case(fails('RE:.*failed to read secret file "/no/such": open /no/such: no such file or directory'))
async def secret_file_that_is_missing(x: Ctx) -> Any:
    return await x.dag.secret("file:///no/such").plaintext()


# --- services and git ----------------------------------------------------------------------------------------------
def ends(x: Ctx, code: int) -> Any:
    """Give a service that ends before its port answers."""
    return x.base.with_exposed_port(80).as_service(args=["sh", "-c", f"echo said; exit {code}"]).with_hostname("ends")


@case(exec_fails(4, stdout="said\n", message="exit code: 4"))
async def started_by_hand_the_error_is_that_of_the_command(x: Ctx) -> Any:
    return await ends(x, 4).start()


@case(exec_fails(-1, message="start ends (aliased as e): service exited before healthcheck"))
async def service_that_ends_well_too_early(x: Ctx) -> Any:
    return await x.fresh().with_service_binding("e", ends(x, 0)).with_exec(["true"]).stdout()


@case(fails('repository does not contain ref "refs/heads/none"'))
async def branch_that_is_missing(x: Ctx) -> Any:
    return await repository(x).branch("none").commit()


@case(["refs/heads/main", "ref: refs/heads/main\n"])
async def head_is_a_branch(x: Ctx) -> Any:
    head = repository(x).head()
    return [await head.ref(), await head.tree().file(".git/HEAD").contents()]


@case(fails('invalid commit SHA: "zz"'))
async def commit_that_is_none(x: Ctx) -> Any:
    return await repository(x).commit("zz").commit()


@case(fails("git error: not a git repository"))
async def directory_that_is_no_repository(x: Ctx) -> Any:
    return await x.dag.directory().with_new_file("f", "").as_git().branches()


def repository(x: Ctx) -> Any:
    """Give a repository of one commit without files."""
    place = x.tmp / "repository"
    if not place.exists():
        place.mkdir()
        settings = ("-c", "user.name=n", "-c", "user.email=e@localhost", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "init", "-q", "-b", "main", "."], cwd=place, check=True)
        subprocess.run(["git", *settings, "commit", "-q", "--allow-empty", "-m", "first"], cwd=place, check=True)
    return x.dag.host().directory(str(place)).as_git()
