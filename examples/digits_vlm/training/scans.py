"""The training scans as they are committed: one sheet of 8×8 tiles and a line of JSON for each tile."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SPLIT_SEED = 20261121
SIDE = 8
COLUMNS = 40
SHEET = "train.png"
LABELS = "train.jsonl"


def write_sheet(folder: Path, ids: Sequence[str], pixels: NDArray[np.uint8], labels: Sequence[int]) -> None:
    """Write scans (`[n, 8, 8]`) as `train.png` and `train.jsonl` into `folder`."""
    rows = -(-len(ids) // COLUMNS)
    sheet = np.zeros((rows * SIDE, COLUMNS * SIDE), np.uint8)
    lines = []
    for index, (name, scan, label) in enumerate(zip(ids, pixels, labels, strict=True)):
        row, column = divmod(index, COLUMNS)
        sheet[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = scan
        lines.append(json.dumps({"id": name, "row": row, "column": column, "label": int(label)}))
    Image.fromarray(sheet).save(folder / SHEET, optimize=True)
    (folder / LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_sheet(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the training scans (`[n, 8, 8]`, 0 to 1) and their labels."""
    sheet = np.asarray(Image.open(folder / SHEET), np.float32) / np.float32(255)
    entries = [json.loads(line) for line in (folder / LABELS).read_text(encoding="utf-8").splitlines()]
    tiles = [
        sheet[e["row"] * SIDE : (e["row"] + 1) * SIDE, e["column"] * SIDE : (e["column"] + 1) * SIDE] for e in entries
    ]
    return np.stack(tiles), np.array([entry["label"] for entry in entries])


def data_digest(folder: Path) -> str:
    """Return `sha256:…` over the names and contents of the sheet and its labels."""
    digest = hashlib.sha256()
    for name in (LABELS, SHEET):
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"{content}  {name}\n".encode())
    return f"sha256:{digest.hexdigest()}"
