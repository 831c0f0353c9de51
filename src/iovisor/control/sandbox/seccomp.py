"""The wall between a worker and the kernel: which system calls there are.

A list of what is allowed, for what is not on it cannot be forgotten; a call that is not answers EPERM, as one does for
which a right is missing.  Two filters: `GENERAL` before anything else, and `ALONE`, after which there are no more
processes (threads there are) and no other program.

A filter is classic BPF on {u32 call, u32 machine, u64 pointer, u64 arguments[6]}; see seccomp(2).
"""
from __future__ import annotations

import ctypes
import os
import platform
import struct

#: By machine: what AUDIT_ARCH calls it, the numbers of what is allowed, of clone, clone3 and execve.  In the order of
#: the kernel's tables: files and memory, signals, processes and threads, sockets that are there, time, waiting.
MACHINES: dict[str, tuple[int, list[int], int, int, int]] = {
    "x86_64": (0xc000003e, [
        *range(0, 29), 32, 33, 35, 39, *range(44, 49), 51, 53, 55, 60, 61, 62, 63, 72, 73, 74, 75, 77, 78, 79, 80, 82,
        83, 84, 87, 89, *range(96, 101), 102, 104, 107, 108, 110, 111, 131, 140, 141, 143, 145, 157, 158, 160, 186, 202,
        203, 204, 217, 218, 219, *range(228, 235), 257, 258, 262, 263, 264, 267, 269, 270, 271, 273, 274, 281, 290, 291,
        292, 293, 302, 316, 318, 324, 332, 334, 436, 439], 56, 435, 59),
}
LOAD, EQUAL, ANY_OF, ANSWER = 0x20, 0x15, 0x45, 0x06     # BPF_LD|W|ABS, BPF_JMP|JEQ|K, |JSET|K, BPF_RET|K
ALLOW, REFUSE, ABSENT, KILL = 0x7fff0000, 0x00050001, 0x00050026, 0x80000000         # EPERM, ENOSYS
NAMESPACES, THREAD = 0x7e020080, 0x00010000               # of the flags of clone
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2            # prctl's


def general() -> bytes:
    """What every worker may do."""
    machine, allowed, clone, clone3, execve = _machine()
    return _program([
        (LOAD, 4), (EQUAL, machine, 1, 0), (ANSWER, KILL), (LOAD, 0),
        (EQUAL, clone3, 0, 1), (ANSWER, ABSENT),
        (EQUAL, clone, 0, 4), (LOAD, 16), (ANY_OF, NAMESPACES, 0, 1), (ANSWER, REFUSE), (ANSWER, ALLOW),
        *[line for call in [*allowed, execve] for line in ((EQUAL, call, 0, 1), (ANSWER, ALLOW))],
        (ANSWER, REFUSE)])


def alone() -> bytes:
    """No more processes, and no other program."""
    machine, _, clone, _, execve = _machine()
    return _program([
        (LOAD, 4), (EQUAL, machine, 1, 0), (ANSWER, KILL), (LOAD, 0),
        (EQUAL, execve, 0, 1), (ANSWER, REFUSE),
        (EQUAL, clone, 0, 3), (LOAD, 16), (ANY_OF, THREAD, 1, 0), (ANSWER, REFUSE),
        (ANSWER, ALLOW)])


def known() -> bool:
    """Whether this machine's calls are."""
    return platform.machine() in MACHINES


def install(program: bytes) -> None:
    """From here on, for this process and all it begets.  OSError if that cannot be."""
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(held))
    given = ctypes.create_string_buffer(described, len(described))
    for call in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, ctypes.addressof(given), 0, 0)):
        if libc.prctl(call[0], *(ctypes.c_ulong(word) for word in call[1:])):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _machine() -> tuple[int, list[int], int, int, int]:
    return MACHINES[platform.machine()]


def _program(lines: list[tuple[int, ...]]) -> bytes:
    return b"".join(struct.pack("<HBBI", line[0], *(line[2:] or (0, 0)), line[1]) for line in lines)


__all__ = ["alone", "general", "install", "known"]
