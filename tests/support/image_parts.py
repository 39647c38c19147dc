"""What is in the archive of an image."""

import json
import tarfile
from pathlib import Path
from typing import Any


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], list[bytes]]:
    """Give manifest, configuration and layers of an archive with one image."""
    with tarfile.open(path) as tar:
        blobs = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    index = json.loads(blobs["index.json"])
    manifest = json.loads(blobs["blobs/sha256/" + index["manifests"][0]["digest"][7:]])
    config = json.loads(blobs["blobs/sha256/" + manifest["config"]["digest"][7:]])
    return manifest, config, [blobs["blobs/sha256/" + la["digest"][7:]] for la in manifest["layers"]]
