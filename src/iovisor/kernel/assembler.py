"""A tiny eBPF assembler: programs of a dozen instructions without LLVM.

Used for the programs at the edge (a root that tail-calls, a port that redirects), for probing features, and
in tests. Every function makes one instruction; `assemble` lays them out, resolves labels, and gives the
bytes a `ProgramSpec` takes. It reads as the verifier's log does, in words:

    assemble(
        load(R2, R1, LENGTH, 4),
        jump_if(R2, ">", 1500, "large"),
        leave(PASS),
        Label("large"),
        leave(DROP),
    )

Operands are registers or integers, told apart by type: `move(R0, 1)` and `move(R0, R1)`. Arithmetic is 64
bits unless `bits=32`. Maps are named by their index in the list passed to `Program.load`.

Rejected: parsing text (a grammar to learn, to test and to get wrong), and checking anything the verifier
checks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

_INSTRUCTION = struct.Struct("=BBhi")
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_LOAD, _STORE_IMMEDIATE, _STORE, _MEMORY, _ATOMIC = 0x01, 0x02, 0x03, 0x60, 0xC0
_ALU, _ALU64, _JUMP, _JUMP32, _REGISTER = 0x04, 0x07, 0x05, 0x06, 0x08
_WIDE, _CALL, _EXIT = 0x18, 0x85, 0x95
_PSEUDO_MAP_FD, _PSEUDO_MAP_INDEX, _PSEUDO_MAP_INDEX_VALUE, _PSEUDO_FUNCTION = 1, 5, 6, 4
_PSEUDO_CALL, _PSEUDO_KERNEL_CALL = 1, 2
_CONDITIONS = {
    "==": 0x10, ">": 0x20, ">=": 0x30, "&": 0x40, "!=": 0x50, "s>": 0x60, "s>=": 0x70,
    "<": 0xA0, "<=": 0xB0, "s<": 0xC0, "s<=": 0xD0,
}
_OPERATIONS = {
    "+": 0x00, "-": 0x10, "*": 0x20, "/": 0x30, "|": 0x40, "&": 0x50, "<<": 0x60, ">>": 0x70,
    "%": 0x90, "^": 0xA0, "s>>": 0xC0,
}


class Register(IntEnum):
    """R0 results, R1-R5 arguments (lost in calls), R6-R9 kept, R10 the read-only frame pointer."""

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3
    R4 = 4
    R5 = 5
    R6 = 6
    R7 = 7
    R8 = 8
    R9 = 9
    R10 = 10


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Register


class Helper(IntEnum):
    """enum bpf_func_id, those of use here."""

    MAP_LOOKUP = 1
    MAP_UPDATE = 2
    MAP_DELETE = 3
    CLOCK = 5
    RANDOM = 7
    PROCESSOR = 8
    PACKET_STORE = 9
    TAIL_CALL = 12
    CLONE_REDIRECT = 13
    VLAN_PUSH = 18
    VLAN_POP = 19
    REDIRECT = 23
    PACKET_LOAD = 26
    XDP_ADJUST_HEAD = 44
    REDIRECT_MAP = 51
    XDP_ADJUST_META = 54
    RING_OUTPUT = 130
    RING_RESERVE = 131
    RING_SUBMIT = 132
    RING_DISCARD = 133
    REDIRECT_PEER = 155
    CLOCK_COARSE = 160
    CHECK_MTU = 163
    LOOP = 181
    XDP_LOAD = 189


@dataclass(frozen=True, slots=True)
class Label:
    """A place to jump to."""

    name: str


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `target` is the label its offset (or, with `far`, its immediate) will lead to."""

    opcode: int
    destination: int = 0
    source: int = 0
    offset: int = 0
    immediate: int = 0
    target: str = ""
    far: bool = False

    @property
    def slots(self) -> int:
        """How many times 8 bytes it takes."""
        return 2 if self.opcode == _WIDE else 1


Line = Instruction | Label | Sequence[Instruction]


# -- moving --------------------------------------------------------------------------------------------------


def move(destination: Register, source: Register | int, bits: int = 64) -> Instruction:
    """destination = source. An integer of more than 32 bits makes a wide instruction."""
    if not isinstance(source, Register) and not -(1 << 31) <= source < 1 << 31:
        return Instruction(_WIDE, destination, immediate=source)
    return _arithmetic(0xB0, destination, source, bits)


def load(destination: Register, base: Register, offset: int = 0, size: int = 8) -> Instruction:
    """destination = the `size` bytes at base + offset, zero-extended."""
    return Instruction(_LOAD | _MEMORY | _SIZES[size], destination, base, offset)


def store(base: Register, offset: int, source: Register | int, size: int = 8) -> Instruction:
    """The `size` bytes at base + offset = source."""
    if isinstance(source, Register):
        return Instruction(_STORE | _MEMORY | _SIZES[size], base, source, offset)
    return Instruction(_STORE_IMMEDIATE | _MEMORY | _SIZES[size], base, 0, offset, source)


def add_atomically(base: Register, offset: int, source: Register, size: int = 8) -> Instruction:
    """The `size` (4 or 8) bytes at base + offset += source."""
    return Instruction(_STORE | _ATOMIC | _SIZES[size], base, source, offset)


def map_index(destination: Register, index: int) -> Instruction:
    """destination = the map at `index` in the list passed to `Program.load` (5.14)."""
    return Instruction(_WIDE, destination, _PSEUDO_MAP_INDEX, immediate=index)


def map_value(destination: Register, index: int, offset: int = 0) -> Instruction:
    """destination = address in the only value of the array at `index` in the list (5.14)."""
    return Instruction(_WIDE, destination, _PSEUDO_MAP_INDEX_VALUE, immediate=index | offset << 32)


def map_fd(destination: Register, fd: int) -> Instruction:
    """destination = the map of that descriptor, which makes the bytes good for one load only."""
    return Instruction(_WIDE, destination, _PSEUDO_MAP_FD, immediate=fd)


def function(destination: Register, label: str) -> Instruction:
    """destination = the function at `label`, for helpers that call back (5.13)."""
    return Instruction(_WIDE, destination, _PSEUDO_FUNCTION, target=label, far=True)


# -- computing -----------------------------------------------------------------------------------------------


def compute(destination: Register, operation: str, source: Register | int, bits: int = 64) -> Instruction:
    """destination = destination `operation` source, of + - * / % & | ^ << >> and s>> (arithmetic)."""
    return _arithmetic(_OPERATIONS[operation], destination, source, bits)


def negate(destination: Register, bits: int = 64) -> Instruction:
    """destination = -destination."""
    return Instruction((_ALU64 if bits == 64 else _ALU) | 0x80, destination)


def big_endian(destination: Register, bits: int) -> Instruction:
    """Turn the low 16, 32 or 64 bits between host and network order."""
    return Instruction(_ALU | 0xD0 | _REGISTER, destination, immediate=bits)


def _arithmetic(code: int, destination: Register, source: Register | int, bits: int) -> Instruction:
    kind = {64: _ALU64, 32: _ALU}[bits]
    if isinstance(source, Register):
        return Instruction(kind | code | _REGISTER, destination, source)
    return Instruction(kind | code, destination, immediate=source)


# -- going elsewhere -----------------------------------------------------------------------------------------


def jump(label: str) -> Instruction:
    """Continue at `label`."""
    return Instruction(_JUMP, target=label)


def jump_if(left: Register, condition: str, right: Register | int, label: str, bits: int = 64) -> Instruction:
    """Continue at `label` if so: == != > >= < <= unsigned, s> s>= s< s<= signed, & any common bit."""
    code = {64: _JUMP, 32: _JUMP32}[bits] | _CONDITIONS[condition]
    if isinstance(right, Register):
        return Instruction(code | _REGISTER, left, right, target=label)
    return Instruction(code, left, immediate=right, target=label)


def call(helper: int) -> Instruction:
    """Call a helper with R1-R5; the result is in R0."""
    return Instruction(_CALL, immediate=helper)


def call_kernel(type_id: int) -> Instruction:
    """Call the kernel function of that BTF type id (5.13)."""
    return Instruction(_CALL, 0, _PSEUDO_KERNEL_CALL, immediate=type_id)


def call_local(label: str) -> Instruction:
    """Call the function at `label` of this program."""
    return Instruction(_CALL, 0, _PSEUDO_CALL, target=label, far=True)


def leave(value: int | None = None) -> Sequence[Instruction]:
    """Return R0, or `value`."""
    end = Instruction(_EXIT)
    return (end,) if value is None else (move(R0, value), end)


def tail_call(index: int, entry: int | Register) -> Sequence[Instruction]:
    """Continue in the program under `entry` of the program array at `index`; falls through if there is none.

    R1 must hold the context. At most 33 in a row.
    """
    return (map_index(R2, index), move(R3, entry), call(Helper.TAIL_CALL))


# -- laying out ----------------------------------------------------------------------------------------------


def assemble(*lines: Line) -> bytes:
    """The bytes of a program. ValueError for labels which are missing, doubled or too far."""
    flat = list(_flatten(lines))
    labels: dict[str, int] = {}
    position = 0
    for line in flat:
        if isinstance(line, Label):
            if line.name in labels:
                raise ValueError(f"label {line.name!r} is there twice")
            labels[line.name] = position
        else:
            position += line.slots
    code = bytearray()
    for line in flat:
        if isinstance(line, Instruction):
            code += _encode(line, len(code) // 8, labels)
    return bytes(code)


def _flatten(lines: Iterable[Line]) -> Iterable[Instruction | Label]:
    for line in lines:
        if isinstance(line, Instruction | Label):
            yield line
        else:
            yield from line


def _encode(line: Instruction, position: int, labels: dict[str, int]) -> bytes:
    offset, immediate = line.offset, line.immediate
    if line.target:
        if line.target not in labels:
            raise ValueError(f"label {line.target!r} is nowhere")
        distance = labels[line.target] - position - 1
        if line.far:
            immediate = distance
        elif not -(1 << 15) <= distance < 1 << 15:
            raise ValueError(f"label {line.target!r} is too far: {distance} instructions")
        else:
            offset = distance
    registers = line.destination | line.source << 4
    if line.opcode != _WIDE:
        return _INSTRUCTION.pack(line.opcode, registers, offset, _signed(immediate))
    low, high = immediate & 0xFFFFFFFF, immediate >> 32 & 0xFFFFFFFF
    if line.far:
        high = 0
    first = _INSTRUCTION.pack(line.opcode, registers, 0, _signed(low))
    return first + _INSTRUCTION.pack(0, 0, 0, _signed(high))


def _signed(value: int) -> int:
    """The 32 bits of `value` as a signed number: an immediate may be written either way."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
