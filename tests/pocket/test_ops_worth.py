"""Which layers are compressed."""

import hashlib
from pathlib import Path

import pytest

from pocket.ops.worth import LARGE, worth_compressing
from pocket.store.index import Entry
from pocket.store.layer import Layer, remember

NOISE = hashlib.shake_128(b"noise").digest(48 << 20)


def layer(home: Path, files: dict[str, bytes]) -> Layer:
    """Make a layer of some files."""
    (home / "fs").mkdir(parents=True)
    for name, data in files.items():
        (home / "fs" / name).write_bytes(data)
    made = Layer(home.name, home, "digest", sum(map(len, files.values())), len(files), len(files) + 1)
    remember(made, {"": Entry("d", 0o755)} | {name: Entry("f", 0o644, size=len(data)) for name, data in sorted(files.items())})
    return made


@pytest.mark.parametrize(
    ("files", "worth"),
    [
        ({"weights": NOISE}, False),
        ({"text": b"the same words " * 3_000_000}, True),
        ({"small": NOISE[: 1 << 20]}, True),
        ({f"part{n:02}": NOISE[n << 20 : n + 1 << 20] for n in range(40)}, True),
        ({f"part{n:02}": NOISE[n << 22 : n + 1 << 22] for n in range(12)} | {"notes": b"text " * 100_000}, False),
    ],
    ids=["weights", "text", "small", "many files", "shards"],
)
def test_a_layer_is_compressed_unless_it_is_large_and_does_not_shrink(tmp_path: Path, files: dict[str, bytes], worth: bool) -> None:
    made = layer(tmp_path / "layer", files)
    assert (made.bytes >= LARGE) == ("small" not in files)
    assert worth_compressing(made) is worth
