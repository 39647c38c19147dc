"""Reads of an ELF file what it takes to run it elsewhere: interpreter, needed libraries, search path, build id.

`ldd` would do as well, but it is a shell script that runs the file's own loader, is missing on small hosts, and costs a process per file.
Only the glibc loader's rules are known: RUNPATH/RPATH with $ORIGIN, then the configured directories, then the built-in ones. Hardware
capability directories (glibc-hwcaps) are left out on purpose: the plain library runs on every processor of the architecture.
"""

from __future__ import annotations

import glob
import mmap
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 14, 15, 29
_NT_GNU_BUILD_ID = 3


@dataclass(frozen=True, slots=True)
class Elf:
    """The parts of an ELF file that the loader looks at."""

    machine: int
    bits: int
    interpreter: str = ""
    soname: str = ""
    needed: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    build_id: str = ""


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def read_elf(path: Path) -> Elf | None:
    """Read the loader's view of a file; None when it is no little-endian ELF file."""
    with path.open("rb") as handle:
        head = handle.read(64)
        if len(head) < 52 or head[:4] != b"\x7fELF" or head[5] != 1:
            return None
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(data)


def _parse(data: mmap.mmap) -> Elf:
    bits = 64 if data[4] == 2 else 32
    segments = list(_segments(data, bits))
    interpreter, build_id = "", ""
    dynamic: list[tuple[int, int]] = []
    for segment in segments:
        content = data[segment.offset : segment.offset + segment.size]
        if segment.kind == _PT_INTERP:
            interpreter = content.rstrip(b"\0").decode()
        elif segment.kind == _PT_NOTE:
            build_id = build_id or _build_id(content)
        elif segment.kind == _PT_DYNAMIC:
            form = struct.Struct("<qQ" if bits == 64 else "<iI")
            dynamic = list(form.iter_unpack(content[: len(content) // form.size * form.size]))
    strings = _Strings(data, segments, dynamic)
    runpath = strings.of(_DT_RUNPATH) or strings.of(_DT_RPATH)
    return Elf(
        machine=struct.unpack_from("<H", data, 18)[0],
        bits=bits,
        interpreter=interpreter,
        soname=next(iter(strings.of(_DT_SONAME)), ""),
        needed=tuple(strings.of(_DT_NEEDED)),
        runpath=tuple(part for entry in runpath for part in entry.split(":") if part),
        build_id=build_id,
    )


def _segments(data: mmap.mmap, bits: int) -> Iterator[_Segment]:
    if bits == 64:
        (start,), (size, count) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<HH", data, 54)
    else:
        (start,), (size, count) = struct.unpack_from("<I", data, 28), struct.unpack_from("<HH", data, 42)
    for index in range(count):
        if bits == 64:
            kind, _, offset, address, _, filesize = struct.unpack_from("<IIQQQQ", data, start + index * size)
        else:
            kind, offset, address, _, filesize = struct.unpack_from("<IIIII", data, start + index * size)
        yield _Segment(kind, offset, address, filesize)


class _Strings:
    """Looks up the entries of the dynamic section whose value is an offset into its string table."""

    def __init__(self, data: mmap.mmap, segments: list[_Segment], dynamic: list[tuple[int, int]]) -> None:
        self._data = data
        self._dynamic = dynamic
        table = next((value for tag, value in dynamic if tag == _DT_STRTAB), 0)
        self._start = next(
            (s.offset + table - s.address for s in segments if s.kind == _PT_LOAD and s.address <= table < s.address + s.size), -1
        )

    def of(self, wanted: int) -> list[str]:
        if self._start < 0:
            return []
        return [self._at(value) for tag, value in self._dynamic if tag == wanted]

    def _at(self, offset: int) -> str:
        begin = self._start + offset
        return self._data[begin : self._data.find(b"\0", begin)].decode("utf-8", "surrogateescape")


def _build_id(note: bytes) -> str:
    offset = 0
    while offset + 12 <= len(note):
        name_size, size, kind = struct.unpack_from("<III", note, offset)
        begin = offset + 12 + -(-name_size // 4) * 4
        if kind == _NT_GNU_BUILD_ID and note[offset + 12 : offset + 16] == b"GNU\0":
            return note[begin : begin + size].hex()
        offset = begin + -(-size // 4) * 4
    return ""


@dataclass(slots=True)
class Loader:
    """Finds shared libraries as the dynamic loader of this machine would.

    `directories` defaults to what ld.so.conf names, then the built-in ones of Debian-like and Fedora-like systems.
    """

    directories: tuple[str, ...] = field(default_factory=lambda: (*_configured("/etc/ld.so.conf"), *_built_in()))
    _seen: dict[Path, Elf | None] = field(default_factory=dict)

    def read(self, path: Path) -> Elf | None:
        """Read a file once; later calls answer from memory."""
        if path not in self._seen:
            self._seen[path] = read_elf(path)
        return self._seen[path]

    def find(self, name: str, wanted_by: Path) -> Path | None:
        """Find the library that `wanted_by` would get for a DT_NEEDED name; None when there is none."""
        user = self.read(wanted_by)
        if user is None:
            return None
        origin = str(wanted_by.resolve().parent)
        runpath = [part.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for part in user.runpath]
        for directory in (*runpath, *self.directories):
            candidate = Path(directory, name)
            if candidate.is_file() and os.access(candidate, os.R_OK):
                found = self.read(candidate)
                if found is not None and (found.machine, found.bits) == (user.machine, user.bits):
                    return candidate
        return None

    def closure(self, files: Iterable[Path]) -> tuple[dict[str, Path], dict[Path, list[str]]]:
        """Collect the libraries that files need, transitively.

        Returns library name → path, and for each *given* file the names that nothing on this machine satisfies (directly or through a
        library): such a file does not work here either.
        """
        found: dict[str, Path] = {}
        missing: dict[Path, list[str]] = {}
        for file in files:
            absent = self._collect(file, found)
            if absent:
                missing[file] = absent
        return found, missing

    def _collect(self, file: Path, found: dict[str, Path]) -> list[str]:
        absent: list[str] = []
        mine: dict[str, Path] = {}
        todo = [file]
        while todo:
            current = todo.pop()
            elf = self.read(current)
            for name in elf.needed if elf else ():
                if name.startswith("ld-linux") or name in mine:
                    continue  # the loader itself is already in memory when anything asks for it
                path = found.get(name) or self.find(name, current)
                if path is None:
                    absent.append(name)
                else:
                    mine[name] = path
                    todo.append(path)
        if not absent:
            found.update(mine)
        return absent


def _configured(conf: str) -> Iterator[str]:
    try:
        lines = Path(conf).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        entry = line.partition("#")[0].strip()
        if entry.startswith("include "):
            for included in sorted(glob.glob(entry.split(None, 1)[1])):
                yield from _configured(included)
        elif entry.startswith("/"):
            yield entry


def _built_in() -> tuple[str, ...]:
    triplets = sorted(
        {os.path.dirname(path) for path in glob.glob("/lib/*-linux-gnu*/libc.so.6") + glob.glob("/usr/lib/*-linux-gnu*/libc.so.6")}
    )
    return (*triplets, "/lib64", "/usr/lib64", "/lib", "/usr/lib")
