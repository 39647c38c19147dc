"""The filter of the tiers with a user namespace: calls that can only fail there are answered by us instead of the kernel.

With one id, chown and setgroups to anything but it fail with EINVAL or EPERM, device nodes cannot be made, and package managers give up.
The filter hands the chown family, getgroups and mknod of devices to the container's first process (`pocket.sandbox.record`), which
remembers the owners as data of the store; every other call takes its usual way at its usual speed. setgroups answers "done". Where
nobody can listen (a kernel before 5.5, a filter around ours that has a listener), chown answers "done" and getgroups "none".
With a range of ids only devices are left to us; without a listener there is then no filter.
setuid and its like are not faked: apt reads the id back and aborts.
The filter also knows the 32-bit calls of each machine, so that 32-bit helpers behave the same.
"""

import struct
from functools import cache

_LOAD, _EQUAL, _RETURN, _AND = 0x20, 0x15, 0x06, 0x54
_ALLOW, _ERRNO, _NOTIFY = 0x7FFF0000, 0x00050000, 0x7FC00000
_AUDIT_X86_64, _AUDIT_I386, _AUDIT_AARCH64, _AUDIT_ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
_X32 = 0x40000000  # the bit that marks calls of the x32 ABI, which has the audit number of x86-64
_KIND, _CHARACTER, _BLOCK = 0o170000, 0o020000, 0o060000
_NUMBER_AT, _AUDIT_AT, _FIRST_ARGUMENT = 0, 4, 16

# Calls with 16-bit ids, which old 32-bit programs use, carry the mark "16".
_I386 = {
    182: "chown16", 16: "lchown16", 95: "fchown16", 212: "chown", 198: "lchown", 207: "fchown", 298: "fchownat",
    81: "setgroups16", 206: "setgroups", 80: "getgroups16", 205: "getgroups", 14: "mknod", 297: "mknodat",
}  # fmt: skip
_ARM = {325 if number == 298 else 324 if number == 297 else number: name for number, name in _I386.items()}
_CALLS = {
    "x86_64": {
        _AUDIT_X86_64: {
            92: "chown", 94: "lchown", 93: "fchown", 260: "fchownat", 116: "setgroups", 115: "getgroups", 133: "mknod", 259: "mknodat",
        },
        _AUDIT_I386: _I386,
    },
    "aarch64": {
        _AUDIT_AARCH64: {55: "fchown", 54: "fchownat", 159: "setgroups", 158: "getgroups", 33: "mknodat"},
        _AUDIT_ARM: _ARM,
    },
}  # fmt: skip


def name(machine: str, audit: int, number: int) -> str:
    """Return what a call that the filter handed over is called; "" for one that it does not know."""
    if audit == _AUDIT_X86_64:
        number &= ~_X32
    return _CALLS.get(machine, {}).get(audit, {}).get(number, "")


@cache
def program(machine: str, *, single: bool, listened: bool) -> bytes:
    """Return the BPF program for a machine (`uname -m`); empty when there is nothing to filter, or its calls are not known here.

    single: there is one id only. listened: somebody will answer the calls that are handed over; a call that nobody can answer fails.
    """
    blocks = []
    for audit, calls in _CALLS.get(machine, {}).items() if single or listened else ():
        body = [_op(_LOAD, _NUMBER_AT)]
        if audit == _AUDIT_X86_64:
            body.append(_op(_AND, ~_X32 & 0xFFFFFFFF))
        for number, called in calls.items():
            if not single and not called.startswith("mknod"):
                continue
            action = b"".join(_action(called, listened=listened))
            body.append(_jump(_EQUAL, number, 0, len(action) // 8) + action)
        block = b"".join(body) + _op(_RETURN, _ALLOW)
        blocks.append(_jump(_EQUAL, audit, 0, len(block) // 8) + block)
    if not blocks:
        return b""
    return _op(_LOAD, _AUDIT_AT) + b"".join(blocks) + _op(_RETURN, _ALLOW)


def _action(called: str, *, listened: bool) -> list[bytes]:
    """Return the instructions for one call; all of them end the program."""
    if called.startswith("setgroups"):
        return [_op(_RETURN, _ERRNO)]
    if not called.startswith("mknod"):
        return [_op(_RETURN, _NOTIFY if listened else _ERRNO)]
    if not listened:
        return [_op(_RETURN, _ALLOW)]
    mode = _FIRST_ARGUMENT + 8 * (2 if called == "mknodat" else 1)
    return [
        _op(_LOAD, mode), _op(_AND, _KIND), _jump(_EQUAL, _CHARACTER, 1, 0), _jump(_EQUAL, _BLOCK, 0, 1),
        _op(_RETURN, _NOTIFY), _op(_RETURN, _ALLOW),
    ]  # fmt: skip


def _op(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, when_true: int, when_false: int) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
