"""Dockerfiles: instructions, stages, arguments, mounts, and the errors of each."""

import io
import json
import tarfile
from typing import Any

import dagger
from casebook import Ctx, case, fails

BOX = "FROM scratch AS box\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nENV PATH=/bin\n"


def context(x: Ctx, dockerfile: str, files: dict[str, str] | None = None) -> Any:
    """Make a build context with busybox in it."""
    d = x.dag.directory().with_new_file("Dockerfile", dockerfile).with_file("busybox", x.base.file("/bin/busybox"))
    for name, text in (files or {}).items():
        d = d.with_new_file(name, text)
    return d


def build(x: Ctx, dockerfile: str, files: dict[str, str] | None = None, **options: Any) -> Any:
    """Build on the base with busybox."""
    return context(x, BOX + dockerfile, files).docker_build(**options)


@case(["A\n", "a b\n"])
async def run_in_both_forms(x: Ctx) -> Any:
    c = build(x, 'RUN echo A > /a\nRUN ["busybox", "sh", "-c", "echo a b > /b"]\n')
    return [await c.file("/a").contents(), await c.file("/b").contents()]


@case("1 2 3\n")
async def lines_continued_with_comments_between(x: Ctx) -> Any:
    return await build(x, "RUN echo 1 \\\n# a comment\n  2 \\\n\n  3 > /o\n").file("/o").contents()


@case("val\n")
async def escape_directive(x: Ctx) -> Any:
    return await context(x, "# escape=`\n" + BOX + "RUN echo `\n  val > /o\n").docker_build().file("/o").contents()


@case(["b", "d/", "d/a", "d/sub/", "d/sub/c"])
async def copy_of_directories_and_files(x: Ctx) -> Any:
    c = build(x, "COPY src /out/d\nCOPY b.txt /out/b\n", {"src/a": "a", "src/sub/c": "c", "b.txt": "b"})
    return await c.directory("/out").glob("**")


@case(["a.txt", "b.txt"])
async def copy_with_wildcards(x: Ctx) -> Any:
    return await build(x, "COPY *.txt /out/\n", {"a.txt": "", "b.txt": "", "c.md": ""}).directory("/out").entries()


@case(["x y", "z"])
async def copy_of_names_with_spaces(x: Ctx) -> Any:
    return await build(x, 'COPY ["x y", "z", "/out/"]\n', {"x y": "", "z": ""}).directory("/out").entries()


@case(fails('RE:.*line 5.*"/nope": not found.*'), dagger=fails("RE:.*nope: no such file or directory.*"))
async def copy_of_what_is_not_there(x: Ctx) -> Any:
    return await build(x, "COPY nope /x\n").sync()


@case(["one", "two"])
async def copy_from_stages_by_name_and_number(x: Ctx) -> Any:
    df = "FROM box AS one\nRUN printf one > /f\nFROM box\nRUN printf two > /f\nFROM box\nCOPY --from=one /f /a\nCOPY --from=2 /f /b\n"
    c = build(x, df)
    return [await c.file("/a").contents(), await c.file("/b").contents()]


@case("0\n")
async def stages_that_are_not_needed_do_not_run(x: Ctx) -> Any:
    return await build(x, "FROM box AS broken\nRUN exit 1\nFROM box\nRUN echo 0 > /o\n").file("/o").contents()


@case(fails('RE:.*target stage "nope" could not be found.*'))
async def target_that_is_not_there(x: Ctx) -> Any:
    return await build(x, "RUN true\n", target="nope").sync()


@case("dev pre-dev dev\n")
async def arguments_in_from(x: Ctx) -> Any:
    df = "ARG KIND=dev\n" + BOX + "FROM box AS box-dev\nENV K=dev\nFROM box-${KIND}\nARG KIND\nARG P=pre-$KIND\nRUN echo $K $P $KIND > /o\n"
    return await context(x, df).docker_build().file("/o").contents()


@case(["env\n", "env"])
async def environment_wins_over_arguments(x: Ctx) -> Any:
    c = build(x, "ARG A=arg\nENV A=env\nRUN echo $A > /o\n", build_args=[dagger.BuildArg("A", "given")])
    return [await c.file("/o").contents(), await c.env_variable("A")]


@case([None, "set\n"], dagger=["set", "set\n"])
async def arguments_are_not_in_the_image(x: Ctx) -> Any:
    c = build(x, "ARG A=set\nRUN echo $A > /o\n")
    return [await c.env_variable("A"), await c.file("/o").contents()]


@case("def alt  repl xtail strip\n")
async def variable_modifiers(x: Ctx) -> Any:
    df = 'ENV V=pretail S=strip.tar.gz\nENV O=${N:-def}\\ ${V:+alt}\\ ${N:+no}\\ ${N:-repl}\\ ${V/pre/x}\\ ${S%%.*}\nRUN echo "$O" > /o\n'
    return await build(x, df).file("/o").contents()


@case(fails("RE:.*line 6.*can't find = in.*"), dagger=fails("RE:.*can't find = in.*"))
async def syntax_error_names_its_line(x: Ctx) -> Any:
    return await build(x, "RUN true\nENV A=1 B\nRUN true\n").sync()


@case(fails("RE:.*line 5.*given.*"), dagger=fails("RE:.*given.*"))
async def variable_that_must_be_set(x: Ctx) -> Any:
    return await build(x, "ENV A=${MISSING:?given}\n").sync()


@case(["two words", "it's", "a=b"])
async def environment_with_quotes(x: Ctx) -> Any:
    c = build(x, 'ENV A="two words" B=it\\\'s C=a=b\n')
    return [await c.env_variable(n) for n in "ABC"]


@case(["/a/b/c", "/a/b/c\n", "755\n"])
async def workdirs_add_up_and_are_made(x: Ctx) -> Any:
    c = build(x, "WORKDIR /a\nWORKDIR b/c\nRUN pwd > /o; busybox stat -c %a . > /m\n")
    return [await c.workdir(), await c.file("/o").contents(), await c.file("/m").contents()]


@case([["/bin/sh", "-c", "serve x"], ["/bin/sh", "-c", "arg"]])
async def shell_forms_are_wrapped(x: Ctx) -> Any:
    c = build(x, "ENTRYPOINT serve x\nCMD arg\n")
    return [await c.entrypoint(), await c.default_args()]


@case([["sh", "-ec", "x"], "in ash\n"])
async def shell_instruction(x: Ctx) -> Any:
    c = build(x, 'SHELL ["sh", "-ec"]\nRUN echo in ash > /o\nCMD x\n')
    return [await c.default_args(), await c.file("/o").contents()]


@case([["e2"], []])
async def entrypoint_of_a_stage_clears_the_bases_command(x: Ctx) -> Any:
    c = build(x, 'ENTRYPOINT ["e1"]\nCMD ["c1"]\nFROM box\nENTRYPOINT ["e2"]\n')
    return [await c.entrypoint(), await c.default_args()]


@case([[80, "TCP"], [81, "UDP"], [8000, "TCP"], [8001, "TCP"]])
async def exposed_ports_and_ranges(x: Ctx) -> Any:
    c = build(x, "ARG P=80\nEXPOSE $P 81/udp 8000-8001\n")
    return sorted([[await p.port(), (await p.protocol()).value] for p in await c.exposed_ports()])


@case(["/data", "SIGINT", {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Retries": 2}])
async def settings_reach_the_image(x: Ctx) -> Any:
    c = build(x, "VOLUME /data\nSTOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s --retries=2 CMD true\n")
    await c.export(str(x.tmp / "i.tar"))
    with tarfile.open(x.tmp / "i.tar") as tar:
        blobs = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    manifest = json.loads(blobs["blobs/sha256/" + json.loads(blobs["index.json"])["manifests"][0]["digest"][7:]])
    config = json.loads(blobs["blobs/sha256/" + manifest["config"]["digest"][7:]])["config"]
    return [min(config["Volumes"]), config["StopSignal"], config["Healthcheck"]]


@case("triggered\n")
async def onbuild_runs_in_the_next_stage(x: Ctx) -> Any:
    return (
        await build(x, "FROM box AS base\nONBUILD RUN echo triggered > /o\nFROM base\nRUN cat /o\n".replace("cat", "busybox cat"))
        .file("/o")
        .contents()
    )


@case(["1000 50\n", "1000:50\n"])
async def user_of_later_steps(x: Ctx) -> Any:
    df = "USER 1000:50\nRUN echo $(busybox id -u) $(busybox id -g) > /w/o\nRUN busybox stat -c %u:%g /w/o > /w/s\n"
    c = build(x, "RUN busybox mkdir -m 777 /w\n" + df)
    return [await c.file("/w/o").contents(), await c.file("/w/s").contents()]


@case(["1\n", "1\n2\n"])
async def cache_mounts_are_kept_between_builds(x: Ctx) -> Any:
    async def run(n: int) -> Any:
        df = f"ARG N={n}\nRUN --mount=type=cache,id=c{x.salt},target=/c echo {n} >> /c/f && busybox cat /c/f > /o\n"
        return await build(x, df).file("/o").contents()

    return [await run(1), await run(2)]


@case(["ctx", False])
async def bind_mounts_show_the_context(x: Ctx) -> Any:
    c = build(
        x,
        "RUN --mount=type=bind,source=src,target=/m busybox cat /m/f > /o; (echo x > /m/f) 2>/dev/null && echo wrote > /w || true\n",
        {"src/f": "ctx"},
    )
    return [await c.file("/o").contents(), await c.exists("/w")]


@case(["one", False])
async def bind_mounts_show_other_stages(x: Ctx) -> Any:
    df = "FROM box AS one\nRUN printf one > /f\nFROM box\nRUN --mount=type=bind,from=one,source=/f,target=/m/f busybox cat /m/f > /o\n"
    c = build(x, df)
    return [await c.file("/o").contents(), await c.exists("/m/f")]


@case("tmpfs\n")
async def temporary_mounts(x: Ctx) -> Any:
    return (
        await build(x, "RUN --mount=type=tmpfs,target=/t busybox grep ' /t ' /proc/mounts | busybox cut -d' ' -f3 > /o\n")
        .file("/o")
        .contents()
    )


@case(["7\n", False])
async def secret_as_a_variable(x: Ctx) -> Any:
    s = x.dag.set_secret("var" + x.salt, "7 bytes")
    c = build(x, f"RUN --mount=type=secret,id=var{x.salt},env=TOKEN echo ${{#TOKEN}} > /o\n", secrets=[s])
    return [await c.file("/o").contents(), await c.exists("/run/secrets")]


@case(fails("RE:.*line 5.*secret missing: not found.*"), dagger=fails('RE:.*secret "missing" is required but.*'))
async def secret_that_is_required(x: Ctx) -> Any:
    return await build(x, "RUN --mount=type=secret,id=missing,required=true true\n").sync()


@case(["plain $NOT", "made of set"])
async def here_documents_quoted_and_not(x: Ctx) -> Any:
    c = build(x, "ENV V=set\nCOPY <<'A' /a\nplain $NOT\nA\nCOPY <<-B /b\n\tmade of $V\nB\n")
    return [(await c.file("/a").contents()).strip(), (await c.file("/b").contents()).strip()]


@case("interpreted\n")
async def here_document_with_an_interpreter(x: Ctx) -> Any:
    return await build(x, "RUN <<EOF\n#!/bin/busybox sh\necho interpreted > /o\nEOF\n").file("/o").contents()


@case(["in", 5])
async def add_unpacks_archives(x: Ctx) -> Any:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("d/in")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"12345"))
    (x.tmp / "a.tgz").write_bytes(out.getvalue())
    d = context(x, BOX + "ADD a.tgz /out/\nCOPY a.tgz /packed\n").with_file("a.tgz", x.dag.host().file(str(x.tmp / "a.tgz")))
    c = d.docker_build()
    return [(await c.directory("/out/d").entries())[0], await c.file("/out/d/in").size()]


@case(fails("RE:.*ADD https://.*"), dagger=fails("RE:.*example.invalid.*"))
async def add_from_elsewhere_is_refused_with_a_reason(x: Ctx) -> Any:
    return await build(x, "ADD https://example.invalid/x /x\n").sync()


@case(["made", True])
async def dockerfile_of_another_name_and_its_ignore_file(x: Ctx) -> Any:
    files = {"other/Build": BOX + "COPY . /ctx\n", "other/Build.dockerignore": "hidden\n", "hidden": "", "made": ""}
    c = context(x, "FROM nothing", files).docker_build(dockerfile="other/Build")
    names = await c.directory("/ctx").entries()
    return ["made" if "made" in names else names, "hidden" not in names]


@case(["600\n", "755 700\n"], dagger=fails("RE:.*invalid chmod parameter: 'u=rwx,go='.*"))
async def modes_of_copies_by_option(x: Ctx) -> Any:
    df = "COPY --chmod=600 f /f\nCOPY --chmod=u=rwx,go= d /d\nRUN busybox stat -c %a /f > /o; echo 755 $(busybox stat -c %a /d/x) > /p\n"
    c = build(x, df, {"f": "", "d/x": ""})
    return [await c.file("/o").contents(), await c.file("/p").contents()]


@case(["a", "c"])
async def copy_with_exclusions(x: Ctx) -> Any:
    return await build(x, "COPY --exclude=b src /out\n", {"src/a": "", "src/b": "", "src/c": ""}).directory("/out").entries()


@case(["src/", "src/deep/", "src/deep/f"])
async def copy_with_parents(x: Ctx) -> Any:
    return await build(x, "COPY --parents src/deep/f /out/\n", {"src/deep/f": ""}).directory("/out").glob("**")


@case(fails("RE:.*dockerfile parse error on line 5: unknown flag: bogus.*"))
async def unknown_option(x: Ctx) -> Any:
    return await build(x, "COPY --bogus=1 busybox /x\n").sync()


@case([6, "why\n"])
async def step_that_fails_says_why(x: Ctx) -> Any:
    try:
        await build(x, "RUN echo why >&2; exit 6\n").sync()
    except dagger.ExecError as e:
        return [e.exit_code, e.stderr + "\n"]


@case([True, False])
async def steps_are_cached_by_what_they_use(x: Ctx) -> Any:
    async def run(used: str, unused: str) -> Any:
        df = BOX + f"ENV S={x.salt}\nCOPY used /used\nRUN busybox cat /proc/sys/kernel/random/uuid > /o\n"
        return await context(x, df, {"used": used, "unused": unused}).docker_build().file("/o").contents()

    a, b, c = await run("1", "1"), await run("1", "2"), await run("2", "1")
    return [a == b, a == c]
