"""Adds the running Python to a root file system tree: interpreter, standard library with compiled modules, pip.

A system Python (prefix /usr) keeps its place; any other one is moved to /usr/local, where an interpreter finds its library from its own
place, so that nobody's home directory becomes a path, or part of a file, of the image.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ci.base import bytecode, stopping
from ci.base.errors import BaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ci.base.tree import Tree

_LEFT_OUT = frozenset(
    "test tests idlelib tkinter turtledemo lib2to3 __pycache__ site-packages dist-packages ensurepip pydoc_data".split()  # noqa: SIM905
)
_NEVER_NEEDED = ("_tkinter", "_test", "_ctypes_test", "xx")


@dataclass(frozen=True, slots=True)
class HostPython:
    """Where the running interpreter lies here and where it goes in the image."""

    executable: Path
    prefix: Path
    stdlib: Path
    name: str  # python3.11
    image_prefix: str

    @classmethod
    def running(cls) -> HostPython:
        """Describe the interpreter beneath any virtual environment."""
        executable = Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
        prefix = Path(sys.base_prefix)
        return cls(
            executable=executable,
            prefix=prefix,
            stdlib=Path(sysconfig.get_path("stdlib")),
            name=f"python{sys.version_info.major}.{sys.version_info.minor}",
            image_prefix="/usr" if prefix == Path("/usr") else "/usr/local",
        )

    @property
    def relocated(self) -> bool:
        """Say whether the interpreter changes its place."""
        return str(self.prefix) != self.image_prefix

    @property
    def image_executable(self) -> str:
        """Give the interpreter's path in the image."""
        return f"{self.image_prefix}/bin/{self.name}"

    @property
    def image_stdlib(self) -> str:
        """Give the standard library's path in the image."""
        return f"{self.image_prefix}/{sys.platlibdir}/{self.name}" if self.relocated else str(self.stdlib)

    @property
    def image_site(self) -> str:
        """Give the directory that `import` searches for installed packages; Debian's Python has names of its own."""
        if self.image_prefix == "/usr" and "deb_system" in sysconfig.get_scheme_names():
            return f"/usr/local/lib/{self.name}/dist-packages"
        return f"{self.image_prefix}/lib/{self.name}/site-packages"

    def content(self, path: Path) -> bytes:
        """Read a file of the installation, its prefix replaced by the image's where it is compiled or written in."""
        data = path.read_bytes()
        old, new = str(self.prefix).encode(), self.image_prefix.encode()
        if not self.relocated or old not in data:
            return data
        if data.startswith(b"\x7fELF"):
            return replace_c_strings(data, old, new)
        return data.replace(old, new)

    def modules(self) -> Iterator[tuple[Path, str]]:
        """List the standard library's files as (path here, path in the image)."""
        for directory, names, files in os.walk(self.stdlib):
            names[:] = sorted(name for name in names if name not in _LEFT_OUT and not name.startswith("config-"))
            below = os.path.relpath(directory, self.stdlib)
            for file in sorted(files):
                path = Path(directory, file)
                if file == "EXTERNALLY-MANAGED" or file.endswith((".a", ".pyc", ".exe")) or not os.access(path, os.R_OK):
                    continue
                if file.endswith(".so") and file.startswith(_NEVER_NEEDED):
                    continue
                yield path, os.path.normpath(f"{self.image_stdlib}/{below}/{file}")


def replace_c_strings(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace a path prefix within a binary, keeping every offset by filling up with slashes, which paths may repeat.

    Linkers store a string that is the tail of another one only once ("3.11.7" within "/home/ana/versions/3.11.7"), so the last component of
    a prefix that ends its string stays. A prefix without room for the new one is left.
    """
    last = old[old.rindex(b"/") :]
    pattern = re.compile(re.escape(old) + rb"(?=([\0/]))")

    def shortened(found: re.Match[bytes]) -> bytes:
        kept = last if found.group(1) == b"\0" else b""
        room = len(old) - len(new) - len(kept)
        return old if room < 0 else new + b"/" * room + kept

    return pattern.sub(shortened, data)


def add_python(tree: Tree, python: HostPython, *, scratch: Path) -> list[Path]:
    """Add interpreter, standard library and links; returns the files read, for the cache's validity check.

    `scratch` is an empty directory that must live until the tree is written.
    """
    sources = [python.executable]
    tree.file(python.image_executable, python.content(python.executable), 0o755)
    for link in ("python3", "python"):
        if python.image_prefix == "/usr/local":
            tree.link(f"/usr/local/bin/{link}", python.name)
        else:
            tree.link(f"/usr/bin/{link}", python.name)
            tree.link(f"/usr/local/bin/{link}", f"../../bin/{python.name}")
    to_compile: list[tuple[Path, str]] = []
    for path, place in python.modules():
        sources.append(path)
        tree.file(place, python.content(path), 0o755 if path.suffix == ".so" else 0o644)
        if path.suffix == ".py":
            to_compile.append((path, place))
    tree.directory(python.image_site)
    for path, place in _add_pip(tree, python):
        sources.append(path)
        if path.suffix == ".py":
            to_compile.append((path, place))
    _add_bytecode(tree, python, to_compile, scratch)
    return sources


def _add_bytecode(tree: Tree, python: HostPython, modules: list[tuple[Path, str]], scratch: Path) -> None:
    jobs: list[tuple[subprocess.Popen[str], Path, list[tuple[Path, str]]]] = []
    # _sysconfigdata is rewritten on its way into the image: bytecode of the original would not match
    listed = [(path, place) for path, place in modules if not path.name.startswith("_sysconfigdata")]
    for half in (listed[0::2], listed[1::2]):
        out = scratch / f"pyc{len(jobs)}"
        out.mkdir(parents=True)
        argv = [str(python.executable), "-I", "-S", bytecode.__file__, str(out)]
        job = subprocess.Popen(argv, stdin=subprocess.PIPE, text=True, env={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"})
        stopping.watch(job)
        jobs.append((job, out, half))
        assert job.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended early, and its exit code says so
            job.stdin.write("".join(f"{path}\t{place}\n" for path, place in half))
            job.stdin.close()
    codes = [job.wait() for job, _, _ in jobs]
    stopping.check()
    for code, (_, out, half) in zip(codes, jobs, strict=True):
        if code != 0:
            raise BaseError(f"compiling the standard library with {python.executable.name} ended with exit code {code}")
        for number, (_, place) in enumerate(half):
            compiled = out / f"{number}.pyc"
            if compiled.exists():
                directory, _, name = place.rpartition("/")
                tree.file(f"{directory}/__pycache__/{name[:-3]}.{sys.implementation.cache_tag}.pyc", compiled)


def _add_pip(tree: Tree, python: HostPython) -> list[tuple[Path, str]]:
    """Add pip; returns the files it came from, with their places in the image."""
    script = f"#!{python.image_executable}\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n".encode()
    for name in ("pip", "pip3"):
        tree.file(f"/usr/local/bin/{name}", script, 0o755)
    installed = _installed_pip()
    if installed:
        placed = [(path, f"{python.image_site}/{place}") for path, place in installed]
        for path, place in placed:
            tree.file(place, path)
        return placed
    wheel = _bundled_wheel(python)
    if wheel is None:
        raise BaseError(
            "the host base needs pip, and neither this environment nor Python's ensurepip has it",
            hint="python -m pip install pip, or uv pip install pip, in the environment that runs weighbridge",
        )
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith("/"):
                tree.file(f"{python.image_site}/{name}", archive.read(name))
    return [(wheel, python.image_site)]


def _installed_pip() -> list[tuple[Path, str]]:
    try:
        distribution = importlib.metadata.distribution("pip")
    except importlib.metadata.PackageNotFoundError:
        return []
    found = []
    for file in sorted(distribution.files or (), key=str):
        path = Path(str(distribution.locate_file(file)))
        inside = not str(file).startswith("..") and file.suffix != ".pyc"
        # pip's own record of how it got here (INSTALLER, RECORD, direct_url.json) belongs to this machine
        if inside and file.name not in {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"} and path.is_file():
            found.append((path, str(file)))
    return found if any(place == "pip/__init__.py" for _, place in found) else []


def _bundled_wheel(python: HostPython) -> Path | None:
    for directory in (python.stdlib / "ensurepip" / "_bundled", Path("/usr/share/python-wheels")):
        wheels = sorted(directory.glob("pip-*.whl")) if directory.is_dir() else []
        if wheels:
            return wheels[-1]
    return None
