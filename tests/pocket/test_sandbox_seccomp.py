"""The filter of the single-uid tier, run through a small model of the kernel's BPF machine."""

from __future__ import annotations

import stat
import struct

import pytest

from pocket.sandbox.seccomp import name, program

ALLOW, DONE, ASK = 0x7FFF0000, 0x00050000, 0x7FC00000
X86_64, I386, AARCH64, ARM, X32 = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028, 0x40000000
X86_64_X32 = -1  # the kernel has no number of its own for these


def verdict(machine: str, audit: int, number: int, *args: int, listened: bool = True, single: bool = True) -> int:
    """Interpret the program for one system call."""
    text = program(machine, single=single, listened=listened)
    code = [struct.unpack_from("=HBBI", text, at) for at in range(0, len(text), 8)]
    data = struct.pack("=II8x6Q", number, audit, *args, *[0] * (6 - len(args)))
    accumulator, at = 0, 0
    while True:
        op, when_true, when_false, value = code[at]
        at += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif op == 0x54:
            accumulator &= value
        elif op == 0x15:
            at += when_true if accumulator == value else when_false
        elif op == 0x06:
            return int(value)


@pytest.mark.parametrize(
    ("machine", "audit", "asked", "groups"),
    [
        ("x86_64", X86_64, {92, 93, 94, 260, 115}, {116}),
        ("x86_64", X86_64_X32, {92, 93, 94, 260, 115}, {116}),
        ("x86_64", I386, {182, 16, 95, 212, 198, 207, 298, 205, 80}, {206, 81}),
        ("aarch64", AARCH64, {54, 55, 158}, {159}),
        ("aarch64", ARM, {182, 16, 95, 212, 198, 207, 325, 205, 80}, {206, 81}),
        ("x86_64", 0x12345678, set(), set()),
    ],
)
@pytest.mark.parametrize("listened", [True, False])
def test_only_the_chown_and_groups_families_are_answered(
    machine: str, audit: int, asked: set[int], groups: set[int], *, listened: bool
) -> None:
    """Every other number, of all there are, goes to the kernel; a call that is asked for has a name."""
    bit = X32 if audit == X86_64_X32 else 0
    audit = X86_64 if bit else audit
    plain = set(range(600)) - asked - groups
    assert {verdict(machine, audit, bit | n, listened=listened) for n in plain} <= {ALLOW}
    assert {verdict(machine, audit, bit | n, listened=listened) for n in asked} <= {ASK if listened else DONE}
    assert {verdict(machine, audit, bit | n, listened=listened) for n in groups} <= {DONE}
    assert all(name(machine, audit, bit | n) for n in asked | groups)


@pytest.mark.parametrize(
    ("machine", "audit", "number", "at"),
    [
        ("x86_64", X86_64, 133, 1), ("x86_64", X86_64, 259, 2), ("x86_64", I386, 14, 1), ("x86_64", I386, 297, 2),
        ("aarch64", AARCH64, 33, 2), ("aarch64", ARM, 14, 1), ("aarch64", ARM, 324, 2),
    ],
)  # fmt: skip
def test_only_devices_are_made_by_somebody_else(machine: str, audit: int, number: int, at: int) -> None:
    """The kernel makes files, pipes and sockets itself."""
    for kind, want in ((stat.S_IFCHR, ASK), (stat.S_IFBLK, ASK), (stat.S_IFIFO, ALLOW), (stat.S_IFREG, ALLOW), (stat.S_IFSOCK, ALLOW)):
        args = [0] * at + [kind | 0o644]
        assert verdict(machine, audit, number, *args) == want
        assert verdict(machine, audit, number, *args, listened=False) == ALLOW


def test_an_unknown_machine_has_no_filter() -> None:
    assert program("riscv64", single=True, listened=True) == b""
    assert name("riscv64", X86_64, 92) == ""


def test_with_a_range_of_ids_only_devices_are_asked_for() -> None:
    """Where nobody listens there is nothing to filter."""
    assert program("x86_64", single=False, listened=False) == b""
    asked = {n for n in range(600) if verdict("x86_64", X86_64, n, 0, 0o20644, 0o20644, single=False) == ASK}
    assert asked == {133, 259}
