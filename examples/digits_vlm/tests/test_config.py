from __future__ import annotations

import json
from pathlib import Path

import pytest

from digits_vlm.config import ConfigError, ModelConfig, default_model_dir


def test_an_8x8_scan_becomes_sixteen_overlapping_patches(tiny_dir: Path) -> None:
    config = ModelConfig.read(tiny_dir)
    assert (config.patches_per_side, config.n_patches, config.head_size) == (4, 16, 8)


def test_a_missing_config_says_how_to_name_another_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--model-dir"):
        ModelConfig.read(tmp_path)


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not JSON"):
        ModelConfig.read(tmp_path)


@pytest.mark.parametrize(("change", "message"), [({"d_modle": 1}, "d_modle"), ({"n_heads": 3}, "not a multiple")])
def test_an_impossible_config_is_refused(tiny_dir: Path, change: dict[str, int], message: str) -> None:
    values = json.loads((tiny_dir / "config.json").read_text(encoding="utf-8"))
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(values | change)


def test_the_model_directory_can_be_named_in_the_environment(
    tiny_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITS_VLM_MODEL_DIR", str(tiny_dir))
    assert default_model_dir() == tiny_dir
    monkeypatch.delenv("DIGITS_VLM_MODEL_DIR")
    monkeypatch.chdir(tmp_path)
    checkout = Path(__file__).resolve().parents[1]
    assert default_model_dir() == (checkout if (checkout / "config.json").is_file() else tmp_path)
