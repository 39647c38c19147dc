"""Content-addressed blobs: `blobs/sha256/ab/…`, mode 0444, verified before they become visible."""

import hashlib
import os
import re
from pathlib import Path
from typing import IO, BinaryIO

from pocket.errors import StoreError
from pocket.store import disk

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BLOCK = 1 << 20
_told = disk.told("write a blob to the cache")


class Blobs:
    """Blobs of one store. Digests are `sha256:` and 64 hex digits; anything else is refused before a path is built."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self._root, self._tmp = root, tmp

    def path(self, digest: str) -> Path:
        """Return where a blob lies or would lie; StoreError when that is no sha256 digest."""
        if not _DIGEST.fullmatch(digest):
            raise StoreError(f"not a sha256 digest: {digest!r}")
        return self._root / digest[7:9] / digest[7:]

    def has(self, digest: str) -> bool:
        """Say whether a blob is there."""
        return self.path(digest).exists()

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading."""
        return open(self.path(digest), "rb")

    def read(self, digest: str) -> bytes:
        """Return a blob's bytes."""
        return self.path(digest).read_bytes()

    @_told
    def put_bytes(self, data: bytes) -> str:
        """Store some bytes and return their digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            temp = self._temp()
            try:
                with open(temp, "xb") as f:
                    f.write(data)
                self._publish(temp, digest)
            except BaseException:
                temp.unlink(missing_ok=True)
                raise
        return digest

    @_told
    def put_file(self, source: IO[bytes] | Path | str, *, expect: str = "", size: int = -1) -> str:
        """Store what a file holds and return its digest; StoreError when it is not the `expect`ed digest or size."""
        if isinstance(source, Path | str):
            with open(source, "rb") as f:
                return self.put_file(f, expect=expect, size=size)
        temp, h, total = self._temp(), hashlib.sha256(), 0
        try:
            with open(temp, "xb") as out:
                while block := source.read(_BLOCK):
                    h.update(block)
                    total += len(block)
                    out.write(block)
            digest = "sha256:" + h.hexdigest()
            if (expect and digest != expect) or (size >= 0 and total != size):
                raise StoreError(f"expected {expect or 'a blob'} of {size} bytes, got {digest} of {total}")
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        self._publish(temp, digest)
        return digest

    def adopt(self, path: Path, digest: str) -> str:
        """Move a file of the session's temporary directory in; its digest was computed while it was written."""
        if self.has(digest):
            path.unlink()
        else:
            self._publish(path, digest)
        return digest

    def verify(self, digest: str) -> bool:
        """Read a blob and remove it when it is not what its name says."""
        path = self.path(digest)
        try:
            good = disk.sha256_file(str(path)) == digest[7:]
        except OSError:
            return False
        if not good:
            path.unlink(missing_ok=True)
        return good

    def _temp(self) -> Path:
        return self._tmp / f"blob-{os.urandom(6).hex()}"

    def _publish(self, temp: Path, digest: str) -> None:
        final = self.path(digest)
        os.chmod(temp, 0o444)
        try:
            os.rename(temp, final)
        except FileNotFoundError:
            final.parent.mkdir(parents=True, exist_ok=True)
            os.rename(temp, final)
