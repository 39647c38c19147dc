"""What a terminal, a pipe and a CI log show of the same run."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pipelines import Done, Pipeline, passing

from ci.errors import InfraError
from ci.report import choose
from ci.report.colour import paint, wanted
from ci.report.plain import Plain
from ci.runner import execute
from ci.stage import Context, StageFailed


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    pipeline = Pipeline.at(tmp_path)

    async def test(_ctx: Context, _needs: Mapping[str, Any]) -> Done:
        raise StageFailed("1 failed, 2 passed", tail="E   assert 1 == 2")

    pipeline.add("validate", passing("12 configs"))
    pipeline.add("build", passing("212 MB"), needs=("validate",), base=True)
    pipeline.add("test", test, needs=("build",))
    pipeline.add("push", passing(), needs=("test",))
    return pipeline


def report(pipeline: Pipeline, **options: Any) -> list[str]:
    stream = io.StringIO()
    pipeline.run(Plain(stream, **options))  # type: ignore[arg-type]
    return stream.getvalue().splitlines()


def test_plain_starts_with_engine_base_and_plan_whatever_is_known_first(pipeline: Pipeline) -> None:
    lines = report(pipeline)
    assert [line.split()[0] for line in lines[:4]] == ["weighbridge", "engine", "base", "plan"]
    assert lines[4] == ""
    assert [line.split()[:2] for line in lines[5:11]] == [
        ["▸", "validate"],
        ["✓", "validate"],
        ["▸", "build"],
        ["✓", "build"],
        ["▸", "test"],
        ["✗", "test"],
    ]
    assert "   E   assert 1 == 2" in lines
    assert lines[-2] == "stopped: test failed (exit 1). Not run: push."


def test_a_stage_is_shown_after_what_it_needs_also_when_the_engine_told_late(pipeline: Pipeline) -> None:
    """Stages start at once; the line of the one before may wait for the engine's last words."""
    record = pipeline.run()
    stream = io.StringIO()
    plain = Plain(stream)
    plain.began(record)
    plain.engine(record)
    plain.base(record)
    build, test = record.stages["build"], record.stages["test"]
    plain.started(build)
    plain.started(test)
    plain.ended(test)
    plain.ended(build)
    plain.finished(record)
    lines = [line.split()[:2] for line in stream.getvalue().splitlines() if line.startswith(" ")]
    assert [line for line in lines if line[1:] in (["build"], ["test"])] == [["▸", "build"], ["✓", "build"], ["▸", "test"], ["✗", "test"]]


def test_quiet_prints_the_failure_and_the_result(pipeline: Pipeline) -> None:
    lines = report(pipeline, quiet=True)
    assert not any(line.startswith((" ▸", " ✓", "engine", "plan")) for line in lines)
    assert any(line.startswith(" ✗ test") for line in lines)


def test_nothing_changed_is_one_line(tmp_path: Path) -> None:
    pipeline = Pipeline.at(tmp_path)
    pipeline.add("build", passing())
    report(pipeline)
    (line,) = report(pipeline)
    assert "nothing changed since run" in line


def test_a_pipe_gets_no_colour_and_no_redraw(pipeline: Pipeline) -> None:
    stream = io.StringIO()
    pipeline.run(choose(stream, {}, quiet=False))  # type: ignore[arg-type]
    assert "\x1b" not in stream.getvalue()


def test_colour_is_for_terminals_and_those_who_ask() -> None:
    pipe = io.StringIO()
    assert not wanted(pipe, {})
    assert wanted(pipe, {"FORCE_COLOR": "1"})
    assert not wanted(pipe, {"FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert paint(" ✓ build   1.0 s", "passed", on=True) == " \x1b[32m✓ build\x1b[0m   1.0 s"
    assert paint(" ✓ build   1.0 s", "passed", on=False) == " ✓ build   1.0 s"


PROGRAM = """
import os, sys
from pathlib import Path
from pipelines import Done, Pipeline, passing
from ci.errors import InfraError
from ci.report import choose
from ci.stage import StageFailed

pipeline = Pipeline(Path(sys.argv[1]), Path(sys.argv[2]))

async def test(ctx, needs):
    ctx.progress("test_a PASSED [ 50 %]")
    raise StageFailed("1 failed, 2 passed", tail="E   assert [1] == [2]")

pipeline.add("validate", passing("12 configs"))
pipeline.add("build", passing("212 MB"), needs=("validate",), base=True)
if sys.argv[3] == "fail":
    pipeline.add("test", test, needs=("build",))
sys.exit(pipeline.run(choose(sys.stdout, os.environ, quiet=False)).exit)
"""


def on_a_terminal(pipeline: Pipeline, how: str) -> tuple[int, str]:
    """Run a program on a real terminal of 30 rows and 100 columns; gives its exit code and what it wrote."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    repository = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": f"{repository}:{repository / 'tests' / 'support'}"}
    command = (sys.executable, "-c", PROGRAM, str(pipeline.root), str(pipeline.cache), how)
    process = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, env=environment)
    os.close(secondary)
    written = b""
    while True:
        try:
            piece = os.read(primary, 1 << 16)
        except OSError:  # Linux ends a terminal that nobody holds any more with EIO
            break
        if not piece:
            break
        written += piece
    os.close(primary)
    return process.wait(), written.decode()


def test_a_terminal_shows_all_stages_in_the_order_of_the_plan_and_the_failure_below(pipeline: Pipeline) -> None:
    code, written = on_a_terminal(pipeline, "fail")
    assert code == 1, written
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    last = text[text.rindex("engine   ") :]
    assert re.search(
        r"✓ validate.*12 configs.*✓ build.*212 MB.*✗ test.*1 failed.*E   assert \[1\] == \[2\].*stopped: test failed", last, re.DOTALL
    )
    assert "\x1b[32m✓ validate" in written
    assert "\x1b[?25h" in written  # the cursor is back


def test_a_terminal_gets_one_line_when_nothing_changed(pipeline: Pipeline) -> None:
    assert on_a_terminal(pipeline, "pass")[0] == 0
    code, written = on_a_terminal(pipeline, "pass")
    assert code == 0
    assert "nothing changed since run" in written
    assert "\x1b" not in written


def test_what_never_became_known_is_not_claimed(pipeline: Pipeline) -> None:
    """A base that could not be resolved is not "not needed"."""

    async def refuse(*_: object) -> Any:
        raise InfraError("no registry, no Python to copy")

    stream = io.StringIO()
    execute(replace(pipeline.request(), resolve_base=refuse), Plain(stream))
    assert "not needed" not in "".join(line for line in stream.getvalue().splitlines() if line.startswith("base"))
    assert "no registry, no Python to copy" in stream.getvalue()


def test_what_a_stage_waits_for_and_what_concerns_the_run_is_printed_unless_quiet(pipeline: Pipeline) -> None:
    record = pipeline.run()
    for quiet, shown in ((False, [" … build                     waits for GPU 0", " ! the budget is at risk"]), (True, [])):
        stream = io.StringIO()
        plain = Plain(stream, quiet=quiet)
        for tell in (plain.began, plain.engine, plain.base):
            tell(record)
        before = len(stream.getvalue().splitlines())
        plain.noted(record.stages["build"], "waits for GPU 0")
        plain.noted(None, "the budget is at risk")
        plain._over.set()
        assert stream.getvalue().splitlines()[before:] == shown


def test_on_a_terminal_a_waiting_stage_says_for_what_in_its_row(pipeline: Pipeline) -> None:
    from rich.console import Console

    from ci.report.live import Live

    record = pipeline.run()
    record.stages["push"].status = "waiting"
    live = Live(io.StringIO(), colour=False)
    live.began(record)
    live.noted(record.stages["push"], "waits for GPU 0: held by evaluate")
    live.noted(None, "the budget is at risk")
    out = io.StringIO()
    Console(file=out, width=120).print(live)
    live.finished(record)
    assert "note     the budget is at risk" in out.getvalue()
    assert re.search(r"^ ◦ push +waits for GPU 0: held by evaluate$", out.getvalue().replace(" \n", "\n"), re.MULTILINE)
