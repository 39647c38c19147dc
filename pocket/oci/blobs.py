"""A directory of blobs by digest, in the shape of an OCI layout: `sha256/<hex>`.

A blob appears under its name only whole and verified: it is written beside, hashed on the way, flushed, then renamed. Many
writers may put the same blob at once; the last rename wins and changes nothing.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from pocket.errors import PocketError
from pocket.oci import digest as dg
from pocket.oci.manifest import Descriptor

BLOCK = 1 << 20


class BlobError(PocketError):
    """A blob that is not there, or has another size than its descriptor says."""


class BlobSource(Protocol):
    """Where the blobs of an image are read from. The store's blobs and a `BlobDir` both fit."""

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading; raise BlobError or FileNotFoundError when it is absent."""


class BlobWriter:
    """A blob on its way in: hashes and counts what is written, and knows what it should become."""

    def __init__(self, file: BinaryIO, path: Path, want: Descriptor | None) -> None:
        self._file, self.path, self._want = file, path, want
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; raise BlobError as soon as there are too many."""
        self.size += len(data)
        if self._want and self.size > self._want.size:
            raise BlobError(
                f"the blob {self._want.digest} is larger than its {self._want.size} bytes", hint="its source is damaged; try again"
            )
        self._hash.update(data)
        self._file.write(data)

    def restart(self) -> None:
        """Throw away what was written, for a source that can only begin anew."""
        self._file.seek(0)
        self._file.truncate()
        self._hash, self.size = hashlib.sha256(), 0

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def finish(self) -> str:
        """Verify size and digest, flush to disk and return the digest."""
        if self._want:
            if self.size != self._want.size:
                raise BlobError(
                    f"the blob {self._want.digest} has {self.size} bytes, not {self._want.size}", hint="the transfer was cut; try again"
                )
            dg.expect("a blob", want=self._want.digest, got=self.digest)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.chmod(0o444)
        return self.digest


class BlobDir:
    """Blobs below `root/sha256`. The directory is made when the first blob is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._dir = root / "sha256"

    def path(self, digest: str) -> Path:
        """Return where a blob is or would be."""
        return self._dir / dg.hex_of(digest)

    def has(self, digest: str) -> bool:
        """Say whether the blob is there, whole."""
        return self.path(digest).exists()

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading; raise BlobError when it is absent."""
        try:
            return self.path(digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise BlobError(f"the blob {digest} is missing in {self.root}", hint="the image is incomplete; fetch it again") from None

    def read(self, digest: str) -> bytes:
        """Return a small blob, verified."""
        with self.open(digest) as f:
            data = f.read()
        dg.expect("a blob", want=digest, got=dg.of_bytes(data))
        return data

    @contextlib.contextmanager
    def writer(self, want: Descriptor | None = None) -> Iterator[BlobWriter]:
        """Give a writer; leaving the block without an error verifies the blob and puts it in place."""
        self._dir.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=".tmp-", dir=self._dir)
        try:
            with os.fdopen(fd, "wb", buffering=0) as file:
                writer = BlobWriter(file, Path(name), want)
                yield writer
                digest = writer.finish()
            os.rename(name, self.path(digest))
            _sync_directory(self._dir)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise

    def put_bytes(self, data: bytes, *, want: Descriptor | None = None) -> str:
        """Store bytes and return their digest."""
        digest = dg.of_bytes(data)
        if want is None and self.has(digest):
            return digest
        with self.writer(want) as w:
            w.write(data)
        return digest

    def put(self, source: BinaryIO, *, want: Descriptor | None = None) -> str:
        """Store what is left in an open file and return its digest."""
        with self.writer(want) as w:
            while block := source.read(BLOCK):
                w.write(block)
        return w.digest


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
