"""Commands: arguments, streams, exit codes, signals, terminals that are not there, processes that outlive their parent."""

from typing import Any

import dagger
from casebook import ANY, Ctx, case, exec_fails, fails
from dagger import ReturnType


@case(["", "two words", "it's", 'a"b', "$HOME", "*", "new\nline", "é\U0001f600"])
async def arguments_arrive_as_they_are(x: Ctx) -> Any:
    words = ["", "two words", "it's", 'a"b', "$HOME", "*", "new\nline", "é\U0001f600"]
    out = await x.base.with_exec(["printf", "%s\\0", *words]).stdout()
    return out.split("\0")[:-1]


@case(130_000)
async def one_very_long_argument(x: Ctx) -> Any:
    return len(await x.base.with_exec(["echo", "-n", "x" * 130_000]).stdout())


@case(5000)
async def very_many_arguments(x: Ctx) -> Any:
    return int(await x.base.with_exec(["sh", "-c", "echo $#", "sh", *["a"] * 5000]).stdout())


@case([0, 1, 2, 42, 126, 127, 192, 255])
async def every_ordinary_exit_code_is_given(x: Ctx) -> Any:
    return [await x.base.with_exec(["sh", "-c", f"exit {n}"], expect=ReturnType.ANY).exit_code() for n in (0, 1, 2, 42, 126, 127, 192, 255)]


@case(exec_fails(128))
async def exit_code_of_a_signal_is_never_expected(x: Ctx) -> Any:
    return await x.base.with_exec(["sh", "-c", "exit 128"], expect=ReturnType.ANY).exit_code()


@case(exec_fails(143))
async def sigterm_is_128_and_its_number(x: Ctx) -> Any:
    return await x.sh("kill -TERM $$").stdout()


@case(exec_fails(134, stdout="before"))
async def output_before_a_signal_is_kept(x: Ctx) -> Any:
    return await x.sh("echo before; kill -ABRT $$").stdout()


@case(["/opt/tool\n", "/opt/tool\n"])
async def command_is_looked_up_in_the_containers_path(x: Ctx) -> Any:
    c = x.base.with_new_file("/opt/tool", "#!/bin/sh\necho $0\n", permissions=0o755)
    return [await c.with_exec(["/opt/tool"]).stdout(), await c.with_env_variable("PATH", "/opt:/bin").with_exec(["tool"]).stdout()]


@case("here\n")
async def command_relative_to_the_workdir(x: Ctx) -> Any:
    c = x.base.with_new_file("/w/tool", "#!/bin/sh\necho here\n", permissions=0o755)
    return await c.with_workdir("/w").with_exec(["./tool"]).stdout()


@case("from a script\n")
async def script_with_an_interpreter_line(x: Ctx) -> Any:
    return await x.base.with_new_file("/s", "#!/bin/sh -e\necho from a script\n", permissions=0o755).with_exec(["/s"]).stdout()


@case(exec_fails(1, stderr="fork/exec /s: no such file or directory"))
async def script_whose_interpreter_is_missing(x: Ctx) -> Any:
    return await x.base.with_new_file("/s", "#!/no/such\n", permissions=0o755).with_exec(["/s"]).stdout()


@case(exec_fails(1, stderr="fork/exec /etc: permission denied"))
async def directory_as_a_command(x: Ctx) -> Any:
    return await x.base.with_exec(["/etc"]).stdout()


@case(["a\n", "", ""])
async def streams_of_the_last_command_only(x: Ctx) -> Any:
    c = x.sh("echo first; echo first >&2")
    d = c.with_exec(["echo", "a"])
    return [await d.stdout(), await d.stderr(), await d.with_exec(["true"]).stdout()]


@case(["one\n", "one\n"])
async def settings_after_a_command_keep_its_output(x: Ctx) -> Any:
    c = x.sh("echo one")
    return [await c.with_env_variable("A", "1").stdout(), await c.with_workdir("/tmp").with_new_file("/f", "").stdout()]


@case(["out", "err", "s"])
async def redirected_streams_are_files_of_the_result(x: Ctx) -> Any:
    c = x.base.with_exec(["sh", "-c", "cat; printf err >&2"], stdin="out", redirect_stdout="/tmp/o", redirect_stderr="/tmp/e")
    d = x.base.with_exec(["cat"], stdin="s", redirect_stdout="/etc/base-release")
    return [await c.file("/tmp/o").contents(), await c.file("/tmp/e").contents(), await d.file("/etc/base-release").contents()]


@case(exec_fails(-1, message="RE:.*no/in: no such file or directory"))
async def redirect_from_a_missing_file(x: Ctx) -> Any:
    return await x.base.with_exec(["cat"], redirect_stdin="/no/in").stdout()


@case([262144, 262144])
async def large_input_and_output_at_once(x: Ctx) -> Any:
    text = "0123456789abcdef" * 16384
    c = x.base.with_exec(["cat"], stdin=text)
    return [len(await c.stdout()), len(await x.base.with_exec(["cat"], stdin=text, redirect_stdout="/o").file("/o").contents())]


@case("closed\n")
async def input_that_nobody_reads(x: Ctx) -> Any:
    return await x.base.with_exec(["echo", "closed"], stdin="y" * 300_000).stdout()


@case("no no no\n")
async def streams_are_no_terminals(x: Ctx) -> Any:
    return await x.sh("for n in 0 1 2; do [ -t $n ] && printf 'yes ' || printf 'no '; done | sed 's/ $//'; echo").stdout()


@case("left\n")
async def process_in_another_session_ends_with_the_step(x: Ctx) -> Any:
    return await x.sh("setsid sleep 300 </dev/null >/dev/null 2>&1 & echo left").stdout()


@case("0\n1\n2\n3\n")
async def descriptors_are_only_the_three(x: Ctx) -> Any:
    """`ls` has opened the directory itself as a fourth."""
    return await x.base.with_exec(["ls", "-1", "/proc/self/fd"]).stdout()


@case("0 0\n")
async def child_processes_start_with_default_signals(x: Ctx) -> Any:
    out = await x.base.with_exec(["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]).stdout()
    return " ".join(str(int(line.split()[1], 16)) for line in out.splitlines()) + "\n"


@case([])
async def capabilities_that_reach_beyond_the_container_are_gone(x: Ctx) -> Any:
    out = await x.base.with_exec(["grep", "CapEff", "/proc/self/status"]).stdout()
    held = int(out.split()[1], 16)
    beyond = {"module": 16, "rawio": 17, "ptrace": 19, "admin": 21, "boot": 22, "nice": 23, "resource": 24, "time": 25, "syslog": 34}
    return [name for name, bit in beyond.items() if held >> bit & 1]


@case("refused\n")
async def kernel_settings_cannot_be_written(x: Ctx) -> Any:
    return await x.sh("(echo 1 > /proc/sys/kernel/panic) 2>/dev/null && echo wrote || echo refused").stdout()


@case("refused\n")
async def file_systems_cannot_be_mounted(x: Ctx) -> Any:
    return await x.sh("mkdir /m; mount -t tmpfs none /m 2>/dev/null && echo mounted || echo refused").stdout()


@case("tmpfs\n")
async def insecure_capabilities_allow_mounts(x: Ctx) -> Any:
    script = "mkdir /m; mount -t tmpfs none /m && df -T /m | tail -1 | awk '{print $2}'"
    return await x.base.with_exec(["sh", "-c", script], insecure_root_capabilities=True).stdout()


@case("lo\n")
async def loopback_is_up(x: Ctx) -> Any:
    return await x.sh("ip addr show lo | grep -q 127.0.0.1 && echo lo").stdout()


@case(fails("RE:not supported.*experimentalPrivilegedNesting.*"), dagger="")
async def nesting_is_refused_with_a_reason(x: Ctx) -> Any:
    return await x.base.with_exec(["true"], experimental_privileged_nesting=True).stdout()


@case([7, ["sh", "-c", "exit 7"], ANY])
async def error_names_the_command_that_failed(x: Ctx) -> Any:
    try:
        await x.sh("exit 7").with_exec(["echo", "after"]).with_new_file("/x", "y").file("/x").contents()
    except dagger.ExecError as e:
        return [e.exit_code, e.command, str(e)]


@case([0, 3])
async def expect_failure_and_any_are_other_commands(x: Ctx) -> Any:
    ok = x.base.with_exec(["sh", "-c", "exit 0"], expect=ReturnType.ANY)
    bad = x.base.with_exec(["sh", "-c", "exit 3"], expect=ReturnType.FAILURE)
    return [await ok.exit_code(), await bad.exit_code()]


@case(exec_fails(1, stderr='exec: "cd": executable file not found in $PATH', command=["cd", "/"]))
async def shell_builtins_are_no_commands(x: Ctx) -> Any:
    return await x.base.with_exec(["cd", "/"]).stdout()


@case("deep\n")
async def command_in_a_long_chain(x: Ctx) -> Any:
    c = x.fresh()
    for n in range(12):
        c = c.with_exec(["sh", "-c", f"echo {n} > /n{n}"])
    return await c.with_exec(["sh", "-c", "[ $(cat /n* | wc -l) -eq 12 ] && echo deep"]).stdout()
