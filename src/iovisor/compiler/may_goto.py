"""`may_goto`: the instruction by which the kernel's verifier walks a loop once, not turn by turn (Linux 6.9, v4).

It falls through some eight million times and then jumps, so that any loop which passes it ends; in return the verifier
takes two turns for the same when what they hold lies in the same ranges.  What a turn costs to verify is then paid
twice or thrice instead of once a turn, and what follows a loop is walked once instead of once a turn that may leave it.

LLVM has no way to say it but inline assembly, and llvmlite no assembler.  So the code asks for a marker, a 16-byte load
of a kind the kernel does not have, and jumps when that is zero; here, behind LLVM, both become the instruction:

    ldimm64 rX, (KIND, MARK)            ja +0; ja +0                    (the kernel removes them)
    …                            to     …
    if rX == 0 goto over                may_goto over

or, when LLVM turned the condition round, everything between moves up by one and makes room for a second jump:

    if rX != 0 goto turn         to     may_goto +1; goto turn

Where registers are few it keeps the marker on the stack meanwhile; then neither what stores nor what loads it is left.

`bpf_loop` was rejected: its body is a function of its own, called through the stack.  So were the iterators of numbers:
two calls into the kernel a turn.
"""
from __future__ import annotations

import struct

from .errors import BackendError

KIND, MARK = 15, 0x6d61_7967            # the source register and the immediate of the marker
LOAD, EQUAL, DIFFERENT, NOTHING = 0x18, 0x15, 0x55, struct.pack("<BBhi", 0x05, 0, 0, 0)
SPILL, FILL, CALL, FRAME, LOST = 0x7b, 0x79, 0x85, 10, -1       # LOST: the register holds something else by now


def patched(code: bytes, lines: bytes) -> tuple[bytes, bytes]:
    """Code with its markers replaced, and the line records with their places moved along."""
    words = [code[i:i + 8] for i in range(0, len(code), 8)]
    moved: dict[int, int] = {}
    place = 0
    while place < len(words):
        opcode, registers, _, immediate = struct.unpack("<BBhi", words[place])
        if opcode != LOAD:
            place += 1
            continue
        if registers >> 4 != KIND or immediate != MARK:
            place += 2
            continue
        _replace(words, place, registers & 15, moved)
        place += 2
    records = [lines[i:i + 16] for i in range(0, len(lines), 16)]
    at = [(struct.unpack_from("<I", record)[0], record[4:]) for record in records]
    return b"".join(words), b"".join(struct.pack("<I", moved.get(place, place)) + rest for place, rest in at)


def _replace(words: list[bytes], first: int, register: int, moved: dict[int, int]) -> None:
    jump, slot = first + 2, 0
    while True:
        if jump == len(words):
            raise BackendError("LLVM left no jump behind the head of a loop")
        opcode, registers, offset, immediate = struct.unpack("<BBhi", words[jump])
        target, source = registers & 15, registers >> 4
        if opcode in (EQUAL, DIFFERENT) and registers == register and immediate == 0:
            break
        if opcode & 7 in (5, 6) and opcode & 0xf0 != 0x80:
            raise BackendError("LLVM jumps between the head of a loop and its test")
        if opcode == SPILL and target == FRAME and source == register:
            words[jump], slot = NOTHING, offset
        elif opcode == FILL and source == FRAME and offset == slot < 0:
            words[jump], register = NOTHING, target
        elif (opcode & 7 in (0, 1, 4, 7) and target == register) or (opcode == CALL and register <= 5):
            register = LOST
        jump += 2 if opcode == LOAD else 1
    if opcode == EQUAL:
        words[first:first + 2] = NOTHING, NOTHING
        words[jump] = struct.pack("<BBhi", 0xe5, 0, offset, 0)
        return
    words[first:jump + 1] = [NOTHING, *words[first + 2:jump], struct.pack("<BBhi", 0xe5, 0, 1, 0),
                             struct.pack("<BBhi", 0x05, 0, offset, 0)]
    for place in range(first + 2, jump):
        moved[place] = place - 1


__all__ = ["KIND", "MARK", "patched"]
