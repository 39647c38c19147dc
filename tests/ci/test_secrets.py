"""Where secrets come from, who gets them, and what is said when one cannot be had."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pipelines import CONFIG, Done, Pipeline, Seen, Work, passing, statuses

from ci.config.load import ConfigError, load
from ci.errors import UsageError
from ci.exits import Exit
from ci.secrets import Secrets, resolve
from ci.stage import Context, Finding, StageFailed

TOKEN = "correct-horse"


def _resolve(
    root: Path, text: str, environ: dict[str, str] | None = None, *, stages: tuple[str, ...] = ("test",), permitted: bool = True
) -> Secrets:
    path = root / "configs" / "pipeline.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{CONFIG}secrets:\n  {text}\n")
    environ = {} if environ is None else environ
    return resolve(load(path).secrets, root=root, environ=environ, stages=stages, permitted=permitted)


@pytest.mark.parametrize(
    "source", ["{env: TOKEN, stages: [test]}", "{file: token.txt, stages: [test]}", "{command: [cat, token.txt], stages: [test, build]}"]
)
def test_a_secret_comes_from_a_variable_a_file_or_a_command(tmp_path: Path, source: str) -> None:
    (tmp_path / "token.txt").write_text(f"{TOKEN}\n")
    secrets = _resolve(tmp_path, f"NAME: {source}", {"TOKEN": TOKEN})
    assert secrets.of("test") == {"NAME": TOKEN}
    assert secrets.of("evaluate") == {}
    assert TOKEN not in repr(secrets)
    assert secrets.scrubber().text(TOKEN) == "***"


def test_no_process_inherits_the_variable(tmp_path: Path) -> None:
    environ = {"TOKEN": TOKEN, "HOME": "/"}
    _resolve(tmp_path, "NAME: {env: TOKEN, stages: [test]}", environ)
    assert environ == {"HOME": "/"}


def test_a_fork_gets_none_and_its_processes_neither(tmp_path: Path) -> None:
    environ = {"TOKEN": TOKEN}
    assert _resolve(tmp_path, "NAME: {env: TOKEN, stages: [test]}", environ, permitted=False) == Secrets()
    assert environ == {}


def test_what_no_stage_of_the_run_needs_is_not_asked_for(tmp_path: Path) -> None:
    assert _resolve(tmp_path, "NAME: {command: [does-not-exist], stages: [evaluate]}").values == {}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{env: TOKEN, stages: [test]}", "the variable TOKEN is not set"),
        ("{file: none.txt, stages: [test]}", "none.txt cannot be read: No such file or directory"),
        ("{file: short.txt, stages: [test]}", "it has fewer than 6 characters"),
        ("{file: empty.txt, stages: [test]}", "it is empty"),
        ("{command: [does-not-exist], stages: [test]}", "does-not-exist cannot be run"),
        ("{command: [sh, -c, 'echo hunter2; exit 3'], stages: [test]}", "sh ended with exit code 3"),
    ],
)
def test_one_that_cannot_be_had_is_named_with_its_place(tmp_path: Path, source: str, why: str) -> None:
    (tmp_path / "short.txt").write_text("12345")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match=why) as error:
        _resolve(tmp_path, f"NAME: {source}")
    lines = CONFIG.count("\n")
    assert f"configs/pipeline.yaml:{lines + 2}:3: the secret NAME cannot be had" in str(error.value)
    assert error.value.exit == Exit.USAGE
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "NAME: {stages: [test]}",
        "NAME: {env: A, file: b, stages: [test]}",
        "NAME: {env: A}",
        "NA-ME: {env: A, stages: [test]}",
        "A: {env: A, stages: [push]}",
    ],
)
def test_a_declaration_that_means_nothing_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="Nothing was run"):
        _resolve(tmp_path, text)


def test_a_home_directory_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token.txt").write_text(TOKEN)
    assert _resolve(tmp_path, "NAME: {file: ~/token.txt, stages: [test]}").of("test") == {"NAME": TOKEN}


def _declared(tmp_path: Path) -> Pipeline:
    pipeline = Pipeline.at(tmp_path)
    (tmp_path / "token.txt").write_text(TOKEN)
    config = pipeline.root / "configs" / "pipeline.yaml"
    config.write_text(f"{config.read_text()}secrets:\n  NAME: {{file: {tmp_path}/token.txt, stages: [test]}}\n")
    return pipeline


def _bytes_below(*places: Path) -> bytes:
    return b"\n".join(
        path.read_bytes() for place in places for path in sorted(place.rglob("*")) if path.is_file() and not path.is_symlink()
    )


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_that_a_run_writes_or_says_holds_a_value(tmp_path: Path, *, fails: bool) -> None:
    pipeline, seen = _declared(tmp_path), Seen()

    async def work(ctx: Context, _needs: Mapping[str, Any]) -> Done:
        value = ctx.secrets["NAME"]
        ctx.progress(f"at {value}")
        ctx.record.artifact("junit.xml").write_text(f"<testsuite><system-out>{value}</system-out></testsuite>")
        if fails:
            finding = Finding(f"{value} is wrong", "a.py", 3)
            raise StageFailed(f"no {value}", tail=f"said {value}", hint=value, findings=[finding], again=("-k", value))
        return Done(f"found {value}", value)

    pipeline.add("test", work)
    record = pipeline.run(seen)
    assert record.status == ("failed" if fails else "passed")
    assert TOKEN not in repr(seen.events)
    assert TOKEN not in repr(record.stages)
    assert TOKEN.encode() not in _bytes_below(record.directory, pipeline.cache)
    assert b"<system-out>***</system-out>" in _bytes_below(record.directory)
    assert ("progress", "test: at ***") in seen.events


def test_only_the_stages_that_are_named_get_it_and_its_name_is_in_their_key(tmp_path: Path) -> None:
    pipeline, got = _declared(tmp_path), {}

    def work(name: str) -> Work:
        async def keep(ctx: Context, _needs: Mapping[str, Any]) -> Done:
            got[name] = dict(ctx.secrets)
            return Done("fine")

        return keep

    for name in ("build", "test"):
        pipeline.add(name, work(name))
    pipeline.run()
    assert got == {"build": {}, "test": {"NAME": TOKEN}}
    (tmp_path / "token.txt").write_text("another-value")
    assert statuses(pipeline.run()) == {"build": "reused", "test": "reused"}
    config = pipeline.root / "configs" / "pipeline.yaml"
    config.write_text(config.read_text().replace("NAME:", "OTHER:"))
    assert statuses(pipeline.run()) == {"build": "reused", "test": "passed"}


def test_a_missing_one_leaves_no_record(tmp_path: Path) -> None:
    pipeline = _declared(tmp_path)
    (tmp_path / "token.txt").unlink()
    pipeline.add("test", passing())
    with pytest.raises(UsageError, match="the secret NAME cannot be had"):
        pipeline.run()
    assert not (pipeline.root / ".weighbridge").exists()
