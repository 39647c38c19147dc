"""ELF files are read as the dynamic loader reads them."""

import sys
from pathlib import Path

from ci.base.elf import Loader, read_elf
from ci.base.hostpython import HostPython, replace_c_strings


def test_reads_what_the_loader_needs() -> None:
    elf = read_elf(HostPython.running().executable)
    assert elf is not None
    assert elf.bits == (64 if sys.maxsize > 2**32 else 32)
    assert Path(elf.interpreter).exists()
    assert "libc.so.6" in elf.needed


def test_other_files_are_not_elf(tmp_path: Path) -> None:
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + b"\x02\x02" + bytes(60)):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert read_elf(path) is None


def test_closure_holds_every_library_that_the_running_process_has_mapped() -> None:
    """The kernel's own list of mapped files is the oracle; Python has imported more than its executable needs, so one side is checked."""
    loader = Loader()
    executable = HostPython.running().executable
    libraries, missing = loader.closure([executable])
    assert missing == {}
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}
    assert {str(path.resolve()) for path in libraries.values()} <= mapped


def test_a_file_whose_library_is_absent_is_named(tmp_path: Path) -> None:
    loader = Loader(directories=(str(tmp_path),))
    libraries, missing = loader.closure([HostPython.running().executable])
    assert libraries == {}
    assert "libc.so.6" in next(iter(missing.values()))


def test_prefix_is_replaced_without_moving_a_byte() -> None:
    data = b"a\0/home/ana/versions/3.11.7\0/home/ana/versions/3.11.7/lib/python3.11\0z"
    replaced = replace_c_strings(data, b"/home/ana/versions/3.11.7", b"/usr/local")
    assert len(replaced) == len(data)
    assert b"ana" not in replaced
    # A linker stores "3.11.7" only once, as the tail of the longer string.
    assert replaced.split(b"\0")[1].endswith(b"3.11.7")
    assert Path(replaced.split(b"\0")[2].decode()) == Path("/usr/local/lib/python3.11")


def test_a_shorter_prefix_is_left() -> None:
    assert replace_c_strings(b"/opt/py\0", b"/opt/py", b"/usr/local") == b"/opt/py\0"
