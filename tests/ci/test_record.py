import json
from pathlib import Path

from pipelines import Pipeline, passing, statuses

from ci.facts import Facts
from ci.plan import make_plan
from ci.record import RunRecord, StageRecord


def begin(place: Path) -> RunRecord:
    pipeline = Pipeline.at(place)
    pipeline.add("build", passing())
    pipeline.add("push", passing(), needs=("build",))
    facts = Facts(commit="0123456789", fork=True)
    return RunRecord.begin(pipeline.root, make_plan(pipeline.config, facts, pipeline.stages), facts)


def test_a_run_that_just_began_says_so_on_disk(tmp_path: Path) -> None:
    record = begin(tmp_path)
    written = json.loads((record.directory / "run.json").read_text())
    assert (written["status"], written["exit"], written["schema"]) == ("running", None, 1)
    assert statuses(record) == {"build": "waiting", "push": "skipped"}
    assert (record.directory / "plan.json").read_text() == record.plan.to_json()


def test_runs_of_one_second_have_directories_of_their_own_and_latest_is_the_last(tmp_path: Path) -> None:
    first = begin(tmp_path)
    more = [RunRecord.begin(first.root, first.plan, first.facts) for _ in range(3)]
    assert len({record.id for record in (first, *more)}) == 4
    assert (first.directory.parent / "latest").resolve() == more[-1].directory.resolve()


def test_a_stages_files_are_noted_once(tmp_path: Path) -> None:
    record = begin(tmp_path)
    entry = record.stages["build"]
    stage = StageRecord(record.directory, entry)
    for _ in range(2):
        stage.artifact("deep/junit.xml").write_text("x")
    assert entry.artifacts == ["deep/junit.xml"]
    assert record.to_json()["stages"][0]["artifacts"] == ["deep/junit.xml"]


def test_no_half_written_record_is_left_behind(tmp_path: Path) -> None:
    record = begin(tmp_path)
    for _ in range(5):
        record.write()
    assert sorted(path.name for path in record.directory.iterdir()) == ["plan.json", "run.json"]
