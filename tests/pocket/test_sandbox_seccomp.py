"""The filter of the single-uid tier, run through a small model of the kernel's BPF machine."""

from __future__ import annotations

import struct

import pytest

from pocket.sandbox.seccomp import program

ALLOW, DONE = 0x7FFF0000, 0x00050000
X86_64, I386, AARCH64, ARM, X32 = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028, 0x40000000


def verdict(machine: str, audit: int, number: int) -> int:
    """Interpret the program for one system call."""
    code = [struct.unpack_from("=HBBI", program(machine), at) for at in range(0, len(program(machine)), 8)]
    accumulator, at = 0, 0
    while True:
        op, when_true, when_false, value = code[at]
        at += 1
        if op == 0x20:
            accumulator = {0: number, 4: audit}[value]
        elif op == 0x15:
            at += when_true if accumulator == value else when_false
        elif op == 0x06:
            return int(value)


@pytest.mark.parametrize(
    ("machine", "audit", "faked", "others"),
    [
        ("x86_64", X86_64, {92, 93, 94, 260, 115, 116}, {0, 59, 90, 105, 117, 182, 212}),
        ("x86_64", I386, {182, 16, 95, 212, 198, 207, 298, 206, 81, 205, 80}, {1, 11, 92, 94, 260}),
        ("aarch64", AARCH64, {54, 55, 158, 159}, {53, 56, 146, 260}),
        ("aarch64", ARM, {182, 16, 95, 212, 198, 207, 325, 206, 81, 205, 80}, {54, 55}),
        ("x86_64", 0x12345678, set(), {92, 93, 94}),
    ],
)
def test_only_the_chown_and_groups_families_are_answered(machine: str, audit: int, faked: set[int], others: set[int]) -> None:
    assert {verdict(machine, audit, n) for n in faked} <= {DONE}
    assert {verdict(machine, audit, n) for n in others} == {ALLOW}


def test_an_unknown_machine_has_no_filter() -> None:
    assert program("riscv64") == b""
