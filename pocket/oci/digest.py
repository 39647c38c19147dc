"""sha256 digests: the names of everything in a registry, a layout or an archive.

A digest that came from outside is checked before it becomes part of a path or a URL.
"""

import hashlib
import re
from pathlib import Path

from pocket.errors import PocketError

_FORM = re.compile(r"sha256:[0-9a-f]{64}")


class DigestError(PocketError):
    """A digest that is malformed, or content that does not have the digest it should have."""


def checked(digest: str) -> str:
    """Return the digest itself when it is a sha256 digest; raise DigestError otherwise."""
    if not _FORM.fullmatch(digest):
        raise DigestError(f"unsupported digest {digest[:100]!r}", hint="only sha256:<64 hex digits> is supported")
    return digest


def hex_of(digest: str) -> str:
    """Return the 64 hex digits of a checked digest."""
    return checked(digest)[7:]


def of_bytes(data: bytes) -> str:
    """Return the digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def of_file(path: Path) -> str:
    """Return the digest of a file's content."""
    with path.open("rb") as f:
        return f"sha256:{hashlib.file_digest(f, 'sha256').hexdigest()}"


def expect(what: str, *, want: str, got: str) -> None:
    """Raise DigestError when the two digests differ; `what` names the content in the message."""
    if want != got:
        raise DigestError(
            f"{what} has the digest {got}, not {want}",
            hint="the content was damaged or replaced on its way; fetch it again, and tell its publisher when it stays so",
        )
