"""The filter of the single-uid tier: calls that can only fail with one id answer "done" instead.

chown and setgroups to anything but the one id fail with EINVAL or EPERM there, and package managers give up. The store keeps
owners as data, so the filter answers 0 to the chown family and to setgroups, and 0 groups to getgroups (the host user's own would
show as 65534). setuid and its like are not faked: apt reads the id back and aborts.
The filter also knows the 32-bit calls of each machine, so that 32-bit helpers behave the same.
"""

import struct
from functools import cache

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_AUDIT_X86_64, _AUDIT_I386, _AUDIT_AARCH64, _AUDIT_ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028

# (chown, lchown, fchown, fchownat, setgroups, getgroups), with the 16-bit forms where a machine has both
_I386 = (182, 16, 95, 212, 198, 207, 298, 81, 206, 80, 205)
_CALLS = {
    "x86_64": {_AUDIT_X86_64: (92, 94, 93, 260, 116, 115), _AUDIT_I386: _I386},
    "aarch64": {_AUDIT_AARCH64: (55, 54, 159, 158), _AUDIT_ARM: (182, 16, 95, 212, 198, 207, 325, 81, 206, 80, 205)},
}


@cache
def program(machine: str) -> bytes:
    """Return the BPF program for a machine (`uname -m`); empty for one whose calls are not known here."""
    blocks = []
    for audit, numbers in _CALLS.get(machine, {}).items():
        checks = []
        for index, number in enumerate(numbers):
            checks.append(_jump(_EQUAL, number, len(numbers) - index, 0))
        body = [_op(_LOAD, 0), *checks, _op(_RETURN, _ALLOW), _op(_RETURN, _ERRNO)]
        blocks.append(_jump(_EQUAL, audit, 0, len(body)) + b"".join(body))
    if not blocks:
        return b""
    return _op(_LOAD, 4) + b"".join(blocks) + _op(_RETURN, _ALLOW)


def _op(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, when_true: int, when_false: int) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
