"""Headers of a tar stream: ustar where the fields are wide enough, PAX records for the rest.

The bytes depend on the arguments alone: user and group names stay empty, times are whole seconds, records are sorted.
`tarfile` is not used for writing, because it has no way to store an extended attribute with arbitrary bytes and costs ten
times as much per file.
"""

BLOCK = 512
END = bytes(2 * BLOCK)
FILE, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_NAME, _PREFIX = 100, 155
_SMALL, _LARGE = 0o7777777, 0o77777777777  # what 7 and 11 octal digits hold


def header(
    name: bytes,
    *,
    kind: bytes,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: tuple[tuple[str, bytes], ...] = (),
) -> bytes:
    """Return the blocks that announce one member, PAX records included. Sizes are bytes, times seconds since the epoch."""
    records: dict[bytes, bytes] = {}
    prefix = b""
    if not name.isascii():
        records[b"path"] = name
    elif len(name) > _NAME:
        cut = name.rfind(b"/", 0, _PREFIX + 1)
        if cut > 0 and 0 < len(name) - cut - 1 <= _NAME:
            prefix, name = name[:cut], name[cut + 1 :]
        else:
            records[b"path"] = name
    if len(link) > _NAME or not link.isascii():
        records[b"linkpath"] = link
    for key, value, most in ((b"uid", uid, _SMALL), (b"gid", gid, _SMALL), (b"size", size, _LARGE), (b"mtime", mtime, _LARGE)):
        if not 0 <= value <= most:
            records[key] = b"%d" % value
    for attribute, content in xattrs:
        records[b"SCHILY.xattr." + attribute.encode(errors="surrogateescape")] = content
    extended = _extended(records) if records else b""
    uid, gid = (v if 0 <= v <= _SMALL else 0 for v in (uid, gid))
    size, mtime = (v if 0 <= v <= _LARGE else 0 for v in (size, mtime))
    return extended + _block(name[:_NAME], prefix, kind, mode, uid, gid, size, mtime, link[:_NAME], device)


def padding(size: int) -> bytes:
    """Return the zeros that follow `size` bytes of content."""
    return bytes(-size % BLOCK)


def _block(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    device: tuple[int, int],
) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(_NAME, b"\0"), mode & 0o7777, uid, gid, size, mtime)
    tail = b"%s%sustar\x0000%s%07o\0%07o\0%s%s" % (
        kind,
        link.ljust(_NAME, b"\0"),
        bytes(64),
        device[0] & _SMALL,
        device[1] & _SMALL,
        prefix.ljust(_PREFIX, b"\0"),
        bytes(12),
    )
    # The checksum counts its own field as eight spaces.
    return b"%s%06o\0 %s" % (head, sum(head) + sum(tail) + 8 * 32, tail)


def _extended(records: dict[bytes, bytes]) -> bytes:
    data = b"".join(_record(k, v) for k, v in sorted(records.items()))
    return _block(b"././@PaxHeader", b"", b"x", 0o644, 0, 0, len(data), 0, b"", (0, 0)) + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """Return `LEN key=value`, where LEN counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
