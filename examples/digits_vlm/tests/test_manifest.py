from __future__ import annotations

import json
from typing import TYPE_CHECKING

from digits_vlm import manifest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_lock_names_every_model_file_with_size_and_digest(model_dir: Path) -> None:
    assert manifest.main(["write", "--model-dir", str(model_dir)]) == 0
    locked = json.loads((model_dir / "model.lock").read_text(encoding="utf-8"))
    assert locked == {"version": 1, "files": manifest.describe(model_dir)}
    size = (model_dir / "weights" / "model.safetensors").stat().st_size
    assert locked["files"]["weights/model.safetensors"]["size"] == size


def test_an_untouched_model_passes_the_check(model_dir: Path) -> None:
    assert manifest.main(["check", "--model-dir", str(model_dir)]) == 0


def test_one_changed_byte_is_found_and_the_file_named(model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = model_dir / "weights" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert manifest.main(["check", "--model-dir", str(model_dir)]) == 1
    assert "weights/model.safetensors" in capsys.readouterr().err


def test_without_a_lock_every_file_counts_as_differing(model_dir: Path) -> None:
    (model_dir / "model.lock").unlink()
    assert manifest.identify(model_dir).differing == manifest.MODEL_FILES
