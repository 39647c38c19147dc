from dataclasses import replace
from pathlib import Path

import pytest
from pipelines import CONFIG, Pipeline, passing, statuses

from ci.inputs import Inputs
from ci.memo import Entry, Memo, digests_of, read_entry
from ci.stage import Base

INPUTS = Inputs(files={"a.py": "1"})


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(tmp_path / "cache", tmp_path / "root")


def entry(inputs: Inputs = INPUTS, *, artifacts: dict[str, str] | None = None) -> Entry:
    return Entry(
        stage="test",
        key=inputs.key(),
        summary="148 passed",
        result={"summary": "148 passed", "digest": "sha256:1"},
        identity={"digest": "sha256:1"},
        run="20261121-014500",
        commit="0123456",
        seconds=1.5,
        inputs=inputs,
        artifacts=artifacts or {},
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "junit.xml").write_text("<testsuite/>")
    return tmp_path / "run"


def test_what_was_put_is_found_under_its_key_only(memo: Memo, files: Path) -> None:
    kept = entry(artifacts=digests_of(["junit.xml"], files))
    memo.put(kept, files, {})
    assert memo.find("test", kept.key) == kept
    assert memo.find("build", kept.key) is None
    assert memo.find("test", "0" * 64) is None


def test_what_a_run_leaves_behind_is_what_lies_in_the_memo(memo: Memo, files: Path, tmp_path: Path) -> None:
    kept = entry(artifacts=digests_of(["junit.xml"], files))
    memo.leave(kept, tmp_path / "before" / "test.json")  # resumed from elsewhere: not in this memo
    memo.put(kept, files, {})
    memo.leave(kept, tmp_path / "after" / "test.json")
    assert read_entry(tmp_path / "before" / "test.json") == kept == read_entry(tmp_path / "after" / "test.json")


def test_files_come_back_also_after_their_run_is_gone(memo: Memo, files: Path, tmp_path: Path) -> None:
    kept = entry(artifacts=digests_of(["junit.xml", "missing"], files))
    memo.put(kept, files, {})
    (files / "junit.xml").unlink()
    memo.restore(kept, tmp_path / "later")
    assert (tmp_path / "later" / "junit.xml").read_text() == "<testsuite/>"


def test_an_entry_that_lost_a_file_is_no_entry(memo: Memo, files: Path, tmp_path: Path) -> None:
    kept = entry(artifacts=digests_of(["junit.xml"], files))
    memo.put(kept, files, {})
    for path in (tmp_path / "cache" / "memo" / "files").iterdir():
        path.unlink()
    assert memo.find("test", kept.key) is None


def test_half_an_entry_is_no_entry(memo: Memo, files: Path, tmp_path: Path) -> None:
    memo.put(entry(), files, {})
    path = tmp_path / "cache" / "memo" / "test" / f"{INPUTS.key()}.json"
    path.write_text(path.read_text()[:40])
    assert memo.find("test", INPUTS.key()) is None


def test_last_and_before_follow_what_held_in_this_tree(memo: Memo, files: Path, tmp_path: Path) -> None:
    first, second = entry(), entry(replace(INPUTS, files={"a.py": "2"}))
    memo.put(first, files, {})
    assert (memo.last("test"), memo.before(first)) == (first, None)
    memo.put(second, files, {})
    memo.point(second)
    assert (memo.last("test"), memo.before(second)) == (second, first)
    assert Memo(tmp_path / "cache", tmp_path / "another clone").last("test") is None


def test_a_base_is_remembered_while_its_archive_is_there(memo: Memo, tmp_path: Path) -> None:
    archive = tmp_path / "base.tar"
    archive.write_text("x")
    base = Base(kind="host", wanted="some/image", identity="sha256:1", description="a base", archive=archive, labels={"a": "b"})
    memo.remember_base("question", base)
    assert memo.base("question") == base
    assert memo.base("another") is None
    archive.unlink()
    assert memo.base("question") is None


def test_a_secret_in_a_result_is_in_neither_cache_nor_record(tmp_path: Path) -> None:
    pipeline = Pipeline.at(tmp_path)
    (pipeline.root / "token.txt").write_text("correct-horse")
    config = pipeline.root / "configs" / "pipeline.yaml"
    config.write_text(f"{CONFIG}secrets:\n  NAME: {{file: token.txt, stages: [test]}}\n")
    pipeline.add("test", passing("logged in with correct-horse", digest="correct-horse"))
    record = pipeline.run()
    assert record.stages["test"].status == "passed"
    for directory in (pipeline.cache, record.directory):
        kept = [path for path in directory.rglob("*") if path.is_file()]
        assert kept
        assert [path for path in kept if b"correct-horse" in path.read_bytes()] == []
    assert statuses(pipeline.run()) == {"test": "reused"}
