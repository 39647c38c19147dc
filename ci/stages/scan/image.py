"""What is in an image, read from its OCI archive: small files that are nobody else's, settings, Python packages with their licences.

Each layer is read by itself: what a later layer removes is still in the image, for everybody who pulls it. Not looked at are the
directories of the operating system, and files that an installed Python package or a Debian package claims as its own: the lock's hashes
say where those come from. What was found in a layer is remembered by the layer's digest, so that a changed line of code costs one small
layer.
"""

from __future__ import annotations

import csv
import json
import tarfile
from dataclasses import asdict, dataclass, field
from email.parser import HeaderParser
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ci.stages.scan.found import Found
from ci.stages.scan.leaks import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ci.stages.scan.leaks import Detectors

_SYSTEM = ("bin/", "boot/", "dev/", "lib", "proc/", "run/", "sbin/", "sys/", "usr/", "var/cache/", "var/lib/dpkg/", "etc/ssl/certs/")
# Settings of accounts, whose names only sound like secrets.
_ACCOUNTS = ("etc/nsswitch.conf", "etc/passwd", "etc/group", "etc/login.defs", "etc/pam.d/")
_DPKG = "var/lib/dpkg/info/"
_METADATA, _RECORD = ".dist-info/METADATA", ".dist-info/RECORD"


@dataclass(frozen=True, slots=True)
class Package:
    """An installed Python package."""

    name: str
    """Normalised: lower case, with hyphens."""
    version: str
    stated: tuple[str, ...]
    """What it says of its licence: an SPDX expression, or classifiers, or free text."""


@dataclass(slots=True)
class Contents:
    """What an image or one layer of it holds."""

    found: list[Found] = field(default_factory=list)
    packages: list[Package] = field(default_factory=list)
    files: int = 0
    """Files that were looked at."""
    unread: list[str] = field(default_factory=list)
    """Layers that could not be read, and why."""


def look(archive: Path, detectors: Detectors, remember: Callable[[str], Memory]) -> Contents:
    """Return what the image in an OCI archive holds; `remember(digest)` gives the memory of a layer.

    Raises:
        ValueError: the archive is no OCI image.

    """
    contents = Contents()
    with tarfile.open(archive) as tar:
        try:
            (described,) = json.load(_member(tar, "index.json"))["manifests"]
            manifest = json.load(_blob(tar, described["digest"]))
            config = json.load(_blob(tar, manifest["config"]["digest"]))
            layers = [layer["digest"] for layer in manifest["layers"]]
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{archive.name} is no OCI image: {error}") from error
        contents.found += detectors.look("image:/settings.env", _settings(config).encode())
        for digest in layers:
            _add(contents, _layer(tar, digest, detectors, remember(digest)))
    return contents


@dataclass(slots=True)
class Memory:
    """A place for what was found in a layer."""

    place: Path

    def get(self) -> Contents | None:
        """Return what was found before; None when that is not known."""
        try:
            kept = json.loads(self.place.read_bytes())
            packages = [Package(one["name"], one["version"], tuple(one["stated"])) for one in kept["packages"]]
            return Contents([Found(**one) for one in kept["found"]], packages, kept["files"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, contents: Contents) -> None:
        """Remember what was found."""
        from ci.paths import write_atomically

        write_atomically(self.place, json.dumps(asdict(contents)).encode())


def _add(contents: Contents, layer: Contents) -> None:
    contents.found += layer.found
    contents.packages += layer.packages
    contents.files += layer.files
    contents.unread += layer.unread


def _settings(config: dict[str, Any]) -> str:
    """Return environment, labels, commands and history as lines."""
    inner = config.get("config") or {}
    lines = [*(inner.get("Env") or ()), *(f"{name}={value}" for name, value in (inner.get("Labels") or {}).items())]
    lines += [*(inner.get("Entrypoint") or ()), *(inner.get("Cmd") or ())]
    lines += [str(step.get("created_by", "")) for step in config.get("history") or ()]
    return "\n".join(str(line).replace("\n", " ") for line in lines)


def _layer(tar: tarfile.TarFile, digest: str, detectors: Detectors, memory: Memory) -> Contents:
    known = memory.get()
    if known is not None:
        return known
    try:
        contents = _read(_blob(tar, digest), detectors)
    except (tarfile.TarError, OSError, EOFError) as error:
        return Contents(unread=[f"layer {digest[:19]}…: {error}"])
    memory.put(contents)
    return contents


def _read(blob: IO[bytes], detectors: Detectors) -> Contents:
    contents, claimed = Contents(), set()
    texts: dict[str, bytes] = {}
    with _opened(blob) as layer:
        for member in layer:
            name = member.name.removeprefix("./").lstrip("/")
            if not member.isfile() or not (name.endswith((_METADATA, _RECORD)) or _is_looked_at(name, member.size)):
                continue
            data = _bytes(layer, member)
            if name.endswith(_METADATA):
                contents.packages.append(_package(data))
            elif name.endswith(_RECORD):
                claimed |= set(_claims(name, data))
            elif name.startswith(_DPKG):
                claimed |= {line.lstrip("/") for line in data.decode("utf-8", "replace").split("\n")}
            else:
                texts[name] = data
    for name, data in texts.items():
        if name not in claimed and name.removesuffix(".pyc") not in claimed:
            contents.files += 1
            contents.found += detectors.look(f"image:/{name}", data)
    return contents


def _is_looked_at(name: str, size: int) -> bool:
    if name.startswith(_DPKG):
        return name.endswith(".list")
    return size <= LARGEST and not name.startswith((*_SYSTEM, *_ACCOUNTS)) and not name.endswith((".pyc", ".safetensors", ".so"))


def _opened(blob: IO[bytes]) -> tarfile.TarFile:
    magic = blob.read(4)
    blob.seek(0)
    if magic == b"\x28\xb5\x2f\xfd":
        try:
            import zstandard
        except ImportError:
            raise OSError("it is compressed with zstd, which needs the extra `compression`") from None
        return tarfile.open(fileobj=zstandard.ZstdDecompressor().stream_reader(blob), mode="r|")
    return tarfile.open(fileobj=blob, mode="r|gz" if magic[:2] == b"\x1f\x8b" else "r|")


def _claims(record: str, data: bytes) -> Iterator[str]:
    """Name the files that a RECORD lists, relative to the root."""
    place = record.rpartition("/")[0].rpartition("/")[0]
    for row in csv.reader(data.decode("utf-8", "replace").splitlines()):
        if row:
            yield _joined(place, row[0])


def _joined(place: str, name: str) -> str:
    parts = place.split("/")
    for part in name.split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(part for part in parts if part)


def _package(data: bytes) -> Package:
    headers = HeaderParser().parsestr(data.decode("utf-8", "replace"), headersonly=True)
    name = normalised(str(headers.get("Name", "")))
    expression, text = str(headers.get("License-Expression", "")), str(headers.get("License", ""))
    classifiers = [line.rpartition(" :: ")[2] for line in headers.get_all("Classifier", []) if line.startswith("License :: ")]
    # Free text may be the whole licence; then the classifiers know better.
    short = text if text and "\n" not in text.strip() and len(text) <= 100 else ""
    stated = [expression] if expression else [*classifiers] or [short or (text.strip().splitlines() or [""])[0]]
    return Package(name, str(headers.get("Version", "")), tuple(one for one in stated if one and one != "UNKNOWN"))


def normalised(name: str) -> str:
    """Return a package's name as indexes compare it."""
    import re

    return re.sub(r"[-_.]+", "-", name).lower()


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        file = tar.extractfile(name)
    except KeyError:
        file = tar.extractfile(f"./{name}")
    if file is None:
        raise KeyError(name)
    return file


def _blob(tar: tarfile.TarFile, digest: str) -> IO[bytes]:
    return _member(tar, "blobs/" + digest.replace(":", "/"))


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""
