"""The model's identity: `model.lock` lists each file of the model with its size and SHA-256.

`python -m digits_vlm.manifest write` renews it and `… check` compares. The server loads files that differ from it,
because trying out other weights is legitimate, but says so in `/health`, `/v1/models` and its log.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from digits_vlm.config import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, default_model_dir

LOCK_FILE = "model.lock"
MODEL_FILES = (CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE)


class FileEntry(TypedDict):
    """One file of the model: its size in bytes and its SHA-256 in hexadecimal."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What was loaded: the weights' digest (`sha256:…`) and the files that differ from `model.lock`."""

    weights_digest: str
    differing: tuple[str, ...]

    @property
    def locked(self) -> bool:
        """Tell whether every file is the one that `model.lock` names."""
        return not self.differing


def describe(model_dir: Path) -> dict[str, FileEntry]:
    """Return the entry of each model file as it lies on disk."""
    return {name: _entry(model_dir / name) for name in MODEL_FILES}


def render(model_dir: Path) -> str:
    """Return the text that `model.lock` should have."""
    return json.dumps({"version": 1, "files": describe(model_dir)}, indent=2, sort_keys=True) + "\n"


def identify(model_dir: Path) -> Identity:
    """Compare a model directory with its lock; without a lock every file counts as differing."""
    found = describe(model_dir)
    try:
        locked = json.loads((model_dir / LOCK_FILE).read_text(encoding="utf-8"))["files"]
    except (FileNotFoundError, KeyError, ValueError):
        locked = {}
    differing = tuple(name for name in MODEL_FILES if locked.get(name) != found[name])
    return Identity("sha256:" + found[WEIGHTS_FILE]["sha256"], differing)


def _entry(path: Path) -> FileEntry:
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def main(argv: list[str] | None = None) -> int:
    """Write or check `model.lock`; return 1 when a check finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m digits_vlm.manifest", description="Write or check model.lock.")
    parser.add_argument("action", choices=("write", "check"))
    parser.add_argument("--model-dir", type=Path, default=default_model_dir())
    options = parser.parse_args(argv)
    if options.action == "write":
        (options.model_dir / LOCK_FILE).write_text(render(options.model_dir), encoding="utf-8")
        return 0
    identity = identify(options.model_dir)
    for name in identity.differing:
        print(f"{name} is not the file that {LOCK_FILE} names", file=sys.stderr)
    return 0 if identity.locked else 1


if __name__ == "__main__":
    raise SystemExit(main())
