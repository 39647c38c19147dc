"""Makes the `host` base image: a minimal root file system from the running Python and the libraries manylinux wheels may expect.

The archive depends on nothing but the files it is made of, so a second run finds it in the cache by their size and time in milliseconds.
Limits: Linux with glibc; the image needs at least this machine's glibc wherever it runs; packages that dlopen further system libraries
(X, GL, codecs) do not find them. It carries Python's public CA bundle, never the machine's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ci.base.elf import Loader
from ci.base.errors import BaseError
from ci.base.hostpython import HostPython, add_python
from ci.base.tree import Tree, write_oci_archive

_FORMAT = 1
_TOOLS = """
    sh bash env cat ls cp mv rm mkdir rmdir ln chmod chown touch sed grep find xargs tar gzip head tail sort uniq wc cut tr tee stat awk
    date test [ id sleep true false echo printf pwd dirname basename readlink realpath mktemp du df uname sha256sum kill nproc timeout
    diff cmp
"""
# PEP 513, 571, 599: what a manylinux wheel takes for granted; the X and GL libraries of those lists are not here.
_MANYLINUX = """
    libc.so.6 libgcc_s.so.1 libstdc++.so.6 libm.so.6 libdl.so.2 librt.so.1 libpthread.so.0 libresolv.so.2 libutil.so.1 libz.so.1
    libexpat.so.1 libcrypt.so.1 libnss_files.so.2 libnss_dns.so.2
"""
_DIRECTORIES = "dev proc sys run etc home opt srv usr/bin usr/lib usr/local/bin usr/local/lib var/lib var/cache"
# What `uname -m` says → what an image configuration says; other names are the same in both.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class HostRoot:
    """A finished base image in the cache."""

    archive: Path
    digest: str  # of the image manifest
    python: str
    labels: dict[str, str]
    size: int  # of the archive, bytes
    reused: bool


def host_root(cache: Path) -> HostRoot:
    """Give the host base from the cache directory, making it when no valid one is there; BaseError when this machine cannot."""
    glibc = _glibc()
    python = HostPython.running()
    key = hashlib.sha256(json.dumps([_FORMAT, sys.version, str(python.executable), glibc, platform.machine()]).encode()).hexdigest()[:16]
    directory = cache / "bases"
    record = directory / f"host-{key}.json"
    known = _known(record)
    if known is not None:
        return known
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="host-", dir=directory) as scratch:
            return _make(python, glibc, record, Path(scratch))
    except OSError as error:
        raise BaseError(
            f"cannot make the host base in {directory}: {error}", hint="set WEIGHBRIDGE_CACHE to a directory with 300 MB free"
        ) from error


def _glibc() -> str:
    library, version = platform.libc_ver()
    if library != "glibc":
        raise BaseError(
            "the host base needs glibc: manylinux wheels do not load on musl",
            hint="name a registry image or an OCI archive as base.image",
        )
    return version


def _known(record: Path) -> HostRoot | None:
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        fresh = all(_stat(path) == stat for path, stat in data["sources"].items())
        archive = record.parent / data["archive"]
        if not fresh or archive.stat().st_size != data["size"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    return HostRoot(archive, data["digest"], data["python"], data["labels"], data["size"], reused=True)


def _stat(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _make(python: HostPython, glibc: str, record: Path, scratch: Path) -> HostRoot:
    tree, loader = Tree(), Loader()
    _add_skeleton(tree)
    sources = add_python(tree, python, scratch=scratch)
    sources += _add_programs(tree, loader, python, sources)
    sources.append(_add_settings(tree))
    elf = loader.read(python.executable)
    described = (
        f"{platform.python_version()} (build id {(elf.build_id if elf else '')[:12] or 'none'}), glibc {glibc}, {platform.machine()}"
    )
    labels = {
        "weighbridge.base.kind": "host",
        "weighbridge.base.python": described,
        "weighbridge.base.glibc": glibc,
        "weighbridge.base.notice": "a fallback made from the build machine's own Python: not for releases",
    }
    out = scratch / "host.tar"
    environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", f"SSL_CERT_FILE={_CA_BUNDLE}"]
    digest = write_oci_archive(
        tree,
        out,
        config={"Env": environment, "Cmd": ["python3"], "WorkingDir": "/"},
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        labels=labels,
    )
    archive = record.parent / f"{digest.removeprefix('sha256:')}.tar"
    shutil.move(out, archive)
    size = archive.stat().st_size
    data = {
        "archive": archive.name,
        "digest": digest,
        "labels": labels,
        "python": described,
        "size": size,
        "sources": {str(path): _stat(str(path)) for path in sources},
    }
    part = scratch / "record.json"
    part.write_text(json.dumps(data), encoding="utf-8")
    part.replace(record)
    return HostRoot(archive, digest, described, labels, size, reused=False)


def _add_skeleton(tree: Tree) -> None:
    # Before anything else: a file added below a real /lib would hide the half of the libraries that lie below /usr/lib.
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        if os.path.islink(f"/{name}"):
            target = os.readlink(f"/{name}").lstrip("/")
            tree.directory(f"/{target}")
            tree.link(f"/{name}", target)
    for path in "dev proc sys run etc home opt srv usr/bin usr/lib usr/local/bin usr/local/lib var/lib var/cache".split():  # noqa: SIM905
        tree.directory(path)
    tree.directory("/root", 0o700)
    tree.directory("/tmp", 0o1777)
    tree.directory("/var/tmp", 0o1777)
    tree.file(
        "/etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    )
    tree.file("/etc/group", b"root:x:0:\napp:x:1000:\nnogroup:x:65534:\n")
    tree.file("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    tree.file("/etc/os-release", b'ID=weighbridge-host\nNAME="Weighbridge host base"\nPRETTY_NAME="Weighbridge host base"\n')


def _add_programs(tree: Tree, loader: Loader, python: HostPython, files: list[Path]) -> list[Path]:
    """Add tools, and the closure of the libraries that they, Python and wheels need; returns the files read."""
    tools = {name: path for name in _TOOLS.split() if (path := _tool(loader, name)) is not None}
    if "sh" not in tools:
        raise BaseError("the host base needs a shell, and /bin/sh is not a program that can be copied", hint="name another base.image")
    binaries = [path for path in files if path == python.executable or path.suffix == ".so"]
    extra = {name: path for name in _MANYLINUX.split() if (path := loader.find(name, python.executable)) is not None}
    libraries, missing = loader.closure([*binaries, *tools.values(), *extra.values()])
    libraries.update(extra)
    for path in missing:
        if path == python.executable:
            raise BaseError(f"{path} needs libraries that are not here: {', '.join(missing[path])}")
    for name, path in tools.items():
        if path not in missing:
            tree.file(f"/usr/bin/{name}", path.resolve(), 0o755)
    if "bin" not in tree.entries or tree.entries["bin"].kind == "dir":
        tree.link("/bin/sh", "../usr/bin/sh")
    interpreter = loader.read(python.executable)
    if interpreter is None or not interpreter.interpreter:
        raise BaseError(f"{python.executable} is not a dynamically linked program: a wheel could not be loaded into it")
    tree.file(interpreter.interpreter, Path(interpreter.interpreter).resolve(), 0o755)
    # Everything lies beside libc, which the loader searches without an ld.so.cache (making one needs chroot's rights).
    home = os.path.dirname(libraries["libc.so.6"])
    for name, path in libraries.items():
        tree.file(f"{home}/{name}", python.content(path) if path.is_relative_to(python.prefix) else path, 0o755)
    return [path.resolve() for path in (*tools.values(), *libraries.values(), Path(interpreter.interpreter))]


def _tool(loader: Loader, name: str) -> Path | None:
    for directory in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        path = Path(directory, name)
        if path.is_file() and os.access(path, os.R_OK | os.X_OK):
            return path if loader.read(path.resolve()) is not None else None
    return None


def _add_settings(tree: Tree) -> Path:
    import certifi

    bundle = Path(certifi.where())
    tree.file(_CA_BUNDLE, bundle)
    return bundle
