"""The maps of sparse files in GNU's formats: where in the file each stored piece belongs. Maps are checked by the reader."""

from collections.abc import Iterable

from pocket.oci.tarheader import LayerError, integer, number


def old_entries(field: bytes) -> list[tuple[int, int]]:
    """Read the (offset, size) pairs of an old GNU header: two numbers of 12 bytes each; an empty pair ends them."""
    out = []
    for at in range(0, len(field) - 23, 24):
        if not field[at]:
            break
        out.append((number(field[at : at + 12]), number(field[at + 12 : at + 24])))
    return out


def pairs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Join numbers two by two."""
    it = iter(numbers)
    try:
        return list(zip(it, it, strict=True))
    except ValueError:
        raise LayerError("a sparse file has an odd map", hint="the layer is damaged; fetch it again") from None


def pax_entries(pax: list[tuple[bytes, bytes]]) -> list[tuple[int, int]]:
    """Read the map of the PAX formats 0.0 (a record per number) and 0.1 (one record with all)."""
    for key, value in pax:
        if key == b"GNU.sparse.map":
            return pairs(integer(n) for n in value.split(b",")) if value else []
    return pairs(integer(value) for key, value in pax if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"))
