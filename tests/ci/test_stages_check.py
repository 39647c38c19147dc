"""The check of a model repository: every kind of mistake is found, with its place, and none hides another."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from ci import check

PNG = b"\x89PNG\r\n\x1a\n"


def tensor_file(shape: tuple[int, ...] = (2, 3), *, shift: int = 0, extra: bytes = b"") -> bytes:
    size = 4 * shape[0] * shape[1]
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [shift, shift + size]}, "__metadata__": {}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size) + extra


def lock(root: Path) -> None:
    files = ["config.json", "weights/model.safetensors"]
    entries = {
        name: {"sha256": hashlib.sha256((root / name).read_bytes()).hexdigest(), "size": (root / name).stat().st_size} for name in files
    }
    (root / "model.lock").write_text(json.dumps({"version": 1, "files": entries}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for directory in ("weights", "evals/images"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "weights" / "model.safetensors").write_bytes(tensor_file())
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "evals" / "images" / "a.png").write_bytes(PNG)
    (tmp_path / "evals" / "suite.jsonl").write_text(
        '{"id": "a", "prompt": "?", "expected": "b", "image": "images/a.png"}\n\n{"id": "b", "prompt": "?", "expected": ["b"]}\n'
    )
    (tmp_path / "requirements.txt").write_text(
        "# a lock\nnumpy==2.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n    # via x\nidna==3 --hash=sha256:02\n"
    )
    lock(tmp_path)
    return tmp_path


def job(root: Path) -> dict[str, Any]:
    return {
        "root": str(root),
        "model": ["config.json", "weights"],
        "lock": "model.lock",
        "summary": "",
        "suites": [{"file": "evals/suite.jsonl", "limit": 500}],
        "requirements": ["requirements.txt"],
    }


def problems(root: Path) -> list[tuple[str, int, str]]:
    return [(found["file"], found["line"], found["message"]) for found in check.check(job(root)).problems]


def test_a_good_repository_has_no_problems_and_is_counted(root: Path) -> None:
    report = check.check(job(root))
    assert report.problems == []
    assert dict(report.counts) == {"documents": 3, "model files": 2, "tensors": 1, "suites": 1, "samples": 2, "packages": 2}


def test_a_changed_weight_is_not_the_locked_one(root: Path) -> None:
    weights = root / "weights" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    ((file, _, message),) = problems(root)
    assert file == "weights/model.safetensors"
    assert "is not the file that model.lock names" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "length of a header"),
        (b"\xff" * 9, "length of a header"),
        (struct.pack("<Q", 2) + b"{]", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "not an object"),
        (struct.pack("<Q", 8) + b'{"w": 1}', "no valid dtype"),
        (tensor_file(shift=4, extra=bytes(4)), "where 0…24 are due"),
        (tensor_file(extra=b"more"), "its tensors end at byte 24"),
        (tensor_file()[:-1], "its tensors end at byte 24"),
    ],
)
def test_a_file_that_only_looks_like_weights(content: bytes, message: str, root: Path) -> None:
    (root / "weights" / "model.safetensors").write_bytes(content)
    lock(root)
    ((_, _, said),) = problems(root)
    assert message in said


def test_files_beside_the_lock(root: Path) -> None:
    (root / "weights" / "stray.safetensors").write_bytes(tensor_file())
    (root / "config.json").unlink()
    assert problems(root) == [
        ("config.json", 0, "model.lock names it, but there is no such file"),
        ("weights/stray.safetensors", 0, "model.lock does not name it, but it would lie in the image"),
    ]


@pytest.mark.parametrize(("content", "line"), [("{", 1), ('{"a": 1,\n]', 2), ("{}", 0), ('{"files": {}}', 0)])
def test_a_lock_that_is_none(content: str, line: int, root: Path) -> None:
    (root / "model.lock").write_text(content)
    file, at, _ = problems(root)[0]
    assert (file, at) == ("model.lock", line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("7", "a sample is an object"),
        ('{"id": "b", "prompt": "?", "expected": "x"}', "already on line 3"),
        ('{"id": "c", "prompt": " ", "expected": "x"}', "prompt is missing"),
        ('{"id": "c", "prompt": "?", "expected": ""}', "expected is missing"),
        ('{"id": "c", "prompt": "?", "expected": "x", "image": "images/none.png"}', "does not exist"),
        ('{"id": "c", "prompt": "?", "expected": "x", "image": "../config.json"}', "outside"),
        ('{"id": "c", "prompt": "?", "expected": "x", "image": "suite.jsonl"}', "is no image"),
    ],
)
def test_a_sample_that_is_none_is_named_by_its_line(line: str, message: str, root: Path) -> None:
    suite = root / "evals" / "suite.jsonl"
    suite.write_text(suite.read_text() + line + "\n")
    ((file, at, said),) = problems(root)
    assert (file, at) == ("evals/suite.jsonl", 4)
    assert message in said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--index-url https://index.example/simple", "names no package index"),
        ("-f wheels", "names no package index"),
        ("torch>=2", "not pinned"),
        ("torch==2", "no sha256 hash"),
        ("torch @ https://files.example/torch.whl", "not pinned"),
    ],
)
def test_a_lock_line_that_does_not_pin(line: str, message: str, root: Path) -> None:
    lock_file = root / "requirements.txt"
    lock_file.write_text(lock_file.read_text() + line + "\n")
    ((file, at, said),) = problems(root)
    assert (file, at) == ("requirements.txt", 7)
    assert message in said


def test_what_cannot_be_read_is_a_problem_and_not_the_end(root: Path) -> None:
    (root / "evals" / "suite.jsonl").unlink()
    (root / "requirements.txt").write_bytes(b"\xff")
    (root / "pyproject.toml").write_text("[")
    assert [file for file, _, _ in problems(root)] == ["pyproject.toml", "evals/suite.jsonl", "requirements.txt"]


def test_an_empty_suite_is_a_problem(root: Path) -> None:
    (root / "evals" / "suite.jsonl").write_text("\n")
    assert problems(root) == [("evals/suite.jsonl", 0, "a suite has at least one sample")]


def test_program_prints_one_object_and_its_exit_code_tells(root: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job(root)))
    assert check.main(str(path)) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    (root / "config.json").write_text("{ }")
    assert check.main(str(path)) == 1
