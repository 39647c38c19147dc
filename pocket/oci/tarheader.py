"""The headers of tar archives: ustar, GNU and PAX fields as one `Member`.

Everything comes from strangers: every number is checked, and a name is only taken apart here, never used.
"""

import os
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pocket.errors import PocketError


class LayerError(PocketError):
    """A layer that is damaged, hostile, or larger than allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a layer may ask for. Sizes are bytes; `total` counts the stream and, apart from it, what holes add."""

    total: int = 1 << 38
    holes: int = 1 << 34
    members: int = 10_000_000
    header: int = 1 << 20
    name: int = 4095


class Member(NamedTuple):
    """One entry of the stream. `size` is the stored content; `length` is the size of the file, holes included."""

    name: str
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()
    segments: tuple[tuple[int, int], ...] | None = None
    length: int = 0


@lru_cache(maxsize=4096)  # owners, modes and times repeat
def number(field: bytes) -> int:
    """Read a number of a header: octal digits, or base 256 when the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=field[0] == 0xFF)
        return value if field[0] == 0xFF else value & ~(0x80 << 8 * (len(field) - 1))
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        raise LayerError(f"a layer has a number that is none: {field!r}", hint="it is damaged; fetch it again") from None


def integer(text: bytes) -> int:
    """Read a decimal number of a PAX record; a fraction is cut off."""
    try:
        if len(text) > 40:
            raise ValueError
        whole, dot, fraction = text.partition(b".")
        value = int(whole or b"0")
        return value - 1 if dot and whole[:1] == b"-" and fraction.strip(b"0") else value
    except ValueError:
        raise LayerError(f"a layer has a number that is none: {text[:40]!r}", hint="it is damaged; fetch it again") from None


def checked_name(name: bytes, limits: Limits) -> str:
    """Return a name or a link's target as text; undecodable bytes travel as surrogates."""
    if len(name) > limits.name or b"\0" in name:
        raise LayerError(f"an entry of a layer has an impossible name: {name[:60]!r}", hint="the layer is damaged or hostile")
    return os.fsdecode(name)


def records(body: bytes) -> list[tuple[bytes, bytes]]:
    """Split a PAX header into its records, in order."""
    out: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(body):
        digits = body[at : at + 12].partition(b" ")[0]
        if not digits.isdigit():
            break
        end = at + int(digits)
        key, sign, value = body[at + len(digits) + 1 : end].partition(b"=")
        if not sign or end > len(body) or value[-1:] != b"\n":
            break
        out.append((key, value[:-1]))
        at = end
    if body[at:].strip(b"\0"):
        raise LayerError("a layer has a malformed PAX header", hint="it is damaged; fetch it again")
    return out


def check(block: bytes) -> None:
    """Compare the checksum, which counts its own field as spaces; old programs summed signed bytes."""
    field = block[148:156]
    want = number(field)
    # Adler-32 holds the sum of all bytes, modulo 65521, plus one: a hundred times faster than to add them up here.
    if zlib.adler32(block) & 0xFFFF == (want + sum(field) - 255) % 65521:
        return
    got = sum(block) - sum(block[148:156]) + 256
    if want != got and want != got - 256 * sum(b > 127 for b in block[:148] + block[156:]):
        raise LayerError("a layer is not a tar archive, or is damaged", hint="check what was pushed, or fetch it again")


def member(block: bytes, pax: dict[bytes, bytes], name: bytes | None, link: bytes | None, limits: Limits) -> Member:
    """Return the member that a header block and the extensions before it describe. Raises LayerError."""
    if name is None:
        name = block[:100].partition(b"\0")[0]
        if block[257:263] == b"ustar\0" and block[345]:
            name = block[345:500].partition(b"\0")[0] + b"/" + name
    if link is None:
        link = block[157:257].partition(b"\0")[0]
    uid, gid, size, mtime = number(block[108:116]), number(block[116:124]), number(block[124:136]), number(block[136:148])
    xattrs: tuple[tuple[str, bytes], ...] = ()
    if pax:
        name, link = pax.get(b"path", name), pax.get(b"linkpath", link)
        uid, gid, size, mtime = (
            integer(pax[key]) if key in pax else value for key, value in ((b"uid", uid), (b"gid", gid), (b"size", size), (b"mtime", mtime))
        )
        start = b"SCHILY.xattr."
        xattrs = tuple(sorted((checked_name(k[len(start) :], limits), v) for k, v in pax.items() if k.startswith(start)))
    if size < 0 or size > limits.total:
        raise LayerError(f"an entry of a layer has the size {size}", hint="the layer is damaged or hostile")
    kind = {b"\0": "0", b"7": "0"}.get(block[156:157]) or block[156:157].decode("latin-1")
    if kind == "0" and name.endswith(b"/"):  # how archives before POSIX wrote a directory
        kind = "5"
    return Member(
        name=checked_name(name, limits),
        kind=kind,
        mode=number(block[100:108]) & 0o7777,
        uid=uid,
        gid=gid,
        size=size,
        mtime=mtime,
        link=checked_name(link, limits),
        device=(number(block[329:337]), number(block[337:345])) if kind in "34" else (0, 0),
        xattrs=xattrs,
        length=size,
    )
