"""Which programs of somebody else's may be loaded, and what is put at their end.

The kernel's verifier proves that a program is safe for the *kernel*: it ends, and touches only memory it may touch.  It
knows nothing of tenants.  What else must hold is asked here, of the bytes, whoever made them:

1. Helpers are those the compiler's TC lowering calls.  None of them sends a packet anywhere: that is done by tail calls
   into the instance's own slots, whose programs are the fabric's.
2. Maps are named by their number among those of the image: the instance's tables and the platform's.  A descriptor, an
   address, a variable or a function of the kernel cannot be named at all.
3. Of the context only the port, the metadata, the mark and the class are written.  The rest of `cb[0]` counts hops and
   tail calls: who writes it goes around for ever.
4. It ends with a drop.  `seal` turns every exit into a jump behind the code, where the answer becomes a drop unless the
   instance is bare (a test, which the kernel folds away elsewhere).  So no packet is handed to the machine's own stack,
   nor to whatever else hangs at the device.
5. It is not long, and has no loop that the verifier does not walk turn by turn (`may_goto` ends one after millions of
   turns).  So what it walks, a million instructions at most, is what one packet can take.

To know where the context is written, registers and stack slots that may hold its address are followed through the code
(`_Follow`): a forward analysis that only ever adds, so it errs on the side of refusing.
"""
from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...compiler.image import Image
from ...targets import bpf, tc

MOST_INSTRUCTIONS = 24_000      # a jump to the end reaches 32,767
HELPERS = frozenset({
    bpf.LOOKUP, bpf.UPDATE, bpf.DELETE, bpf.PRANDOM, bpf.TAIL_CALL, bpf.CSUM_DIFF, bpf.COARSE, bpf.PRECISE, bpf.RESERVE,
    bpf.SUBMIT, bpf.DISCARD, tc.STORE_BYTES, tc.L4_CSUM, tc.VLAN_PUSH, tc.VLAN_POP, tc.LOAD_BYTES, tc.CHANGE_TAIL,
    tc.PULL, tc.CHANGE_HEAD, tc.ADJUST_ROOM})
PLATFORM = frozenset({"@config", "@machine", "@drops", "@next", "@watch", "@events"})
WRITABLE = frozenset(byte for first, last in ((tc.MARK, 4), (tc.CB, 2), (tc.CB + 4, 16), (tc.CLASS, 4))
                     for byte in range(first, first + last))
DROP = 2
LD, LDX, ST, STX, ALU, JMP, JMP32, ALU64 = range(8)
WIDE, EXIT, CALL, ALWAYS, ALWAYS_LONG, MAY_GOTO = 0x18, 0x95, 0x85, 0x05, 0x06, 0xe5
MOVE = 0xb0                     # of ALU and ALU64
SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
MEMORY, SIGNED, ATOMIC = 0x60, 0x80, 0xc0
CONTEXT, MOVED, STACK = 1, 2, 4         # what a register may hold: the context, an address in it, one in the stack


class Unsealed(ValueError):
    """This program is not loaded."""


@dataclass(frozen=True)
class Instruction:
    code: int
    target: int
    source: int
    offset: int
    constant: int

    @property
    def sort(self) -> int:
        return self.code & 7


def check(image: Image, tables: frozenset[str]) -> None:
    """Unsealed if this image could do more than the language; `tables` are those of its function."""
    if len(image.code) % 8 or not 0 < len(image.code) // 8 <= MOST_INSTRUCTIONS:
        raise Unsealed(f"a program has 1 to {MOST_INSTRUCTIONS} instructions, this one {len(image.code) / 8:g}")
    foreign = set(image.maps) - PLATFORM - tables
    if foreign or len(set(image.maps)) != len(image.maps) or "@config" not in image.maps:
        raise Unsealed(f"it uses maps that are not its own: {', '.join(sorted(foreign)) or 'one twice'}")
    lines = list(_decoded(image.code))
    for at, line in enumerate(lines):
        if line is not None:
            _one(at, line, image, len(lines))
    _Follow(lines).run()


def seal(image: Image) -> Image:
    """The image with an end that drops: see the module's essay."""
    lines = list(_decoded(image.code))
    end = len(lines)
    code = bytearray(image.code)
    for at, line in enumerate(lines):
        if line is not None and line.code == EXIT:
            code[8 * at:8 * at + 8] = struct.pack("<BBhi", ALWAYS, 0, end - at - 1, 0)
    code += b"".join(struct.pack("<BBhi", *words) for words in (
        (WIDE, bpf.VALUE_BY_INDEX << 4 | 1, 0, image.maps.index("@config")), (0, 0, 0, 0),
        (0x61, 1 << 4 | 1, 0, 0),                       # r1 = the flags
        (0x57, 1, 0, bpf.BARE), (0x55, 1, 1, 0),        # unless it is bare,
        (0xb7, 0, 0, DROP), (EXIT, 0, 0, 0)))           # drop
    return replace(image, code=bytes(code))


def _decoded(code: bytes) -> Iterator[Instruction | None]:
    """Instructions; None for the second half of a wide one."""
    wide = False
    for words in struct.iter_unpack("<BBhi", code):
        if wide:
            if words[:3] != (0, 0, 0):
                raise Unsealed("a wide instruction has no second half")
            yield None
            wide = False
            continue
        line = Instruction(words[0], words[1] & 15, words[1] >> 4, words[2], words[3])
        wide = line.code == WIDE
        yield line
    if wide:
        raise Unsealed("the last instruction has no second half")


def _one(at: int, line: Instruction, image: Image, count: int) -> None:
    where = f"instruction {at}"
    if line.target > 10 or line.source > 10:
        raise Unsealed(f"{where} names a register that is not there")
    if line.sort == LD:
        if line.code != WIDE:
            raise Unsealed(f"{where} reads the packet in a way of long ago")
        if line.source not in (0, bpf.MAP_BY_INDEX, bpf.VALUE_BY_INDEX):
            raise Unsealed(f"{where} names something of the kernel's that is not its own")
        if line.source and not 0 <= line.constant < len(image.maps):
            raise Unsealed(f"{where} names map {line.constant}, and there are {len(image.maps)}")
    elif line.sort == LDX and line.code & 0xe0 not in (MEMORY, SIGNED):
        raise Unsealed(f"{where} is no load")
    elif line.sort in (ST, STX) and line.code & 0xe0 != MEMORY:
        # An atomic addition; others fetch, also an address that was put aside.
        if line.sort != STX or line.code & 0xe0 != ATOMIC or line.constant:
            raise Unsealed(f"{where} is no plain store")
    elif line.sort in (JMP, JMP32):
        if line.code & 0xf0 == CALL & 0xf0:
            if line.code != CALL or line.source or line.constant not in HELPERS:
                raise Unsealed(f"{where} calls {'helper' if not line.source else 'function'} {line.constant}, which "
                               "programs of a tenant may not")
        elif line.code & 0xf0 == EXIT & 0xf0:
            if line.code != EXIT:
                raise Unsealed(f"{where} is no exit")
        elif line.code == MAY_GOTO:
            raise Unsealed(f"{where} is a loop that only the kernel's patience ends")
        elif not 0 <= _goal(at, line) < count:
            raise Unsealed(f"{where} jumps out of the program")


def _goal(at: int, line: Instruction) -> int:
    return at + 1 + (line.constant if line.code == ALWAYS_LONG else line.offset)


class _Follow:
    """Where the context's address may be; what is written through it."""

    def __init__(self, lines: list[Instruction | None]) -> None:
        self.lines = lines
        # Of each instruction: what registers hold before it, and behind them what stack slots do.
        self.before: list[dict[int, int] | None] = [None] * len(lines)
        self.spilled = any(line is not None and line.code == 0x7b for line in lines)

    def run(self) -> None:
        waiting = [0]
        self.before[0] = {1: CONTEXT, 10: STACK}
        while waiting:
            at = waiting.pop()
            line, state = self.lines[at], self.before[at]
            assert state is not None
            if line is None:
                raise Unsealed(f"instruction {at} is the second half of a wide one")
            after = self._step(at, line, dict(state))
            for goal in self._goals(at, line):
                if goal >= len(self.lines):
                    raise Unsealed("the program runs over its end")
                known = self.before[goal]
                joined = after if known is None else {
                    place: after.get(place, 0) | known.get(place, 0) for place in after.keys() | known.keys()}
                if joined != known:
                    self.before[goal] = joined
                    waiting.append(goal)

    def _goals(self, at: int, line: Instruction) -> list[int]:
        if line.code == EXIT:
            return []
        if line.sort in (JMP, JMP32) and line.code != CALL:
            goal = _goal(at, line)
            return [goal] if line.code in (ALWAYS, ALWAYS_LONG) else [goal, at + 1]
        return [at + 2 if line.code == WIDE else at + 1]

    def _step(self, at: int, line: Instruction, state: dict[int, int]) -> dict[int, int]:
        target, source = state.get(line.target, 0), state.get(line.source, 0)
        if line.code == WIDE:
            state[line.target] = 0
        elif line.sort == LDX:
            found = 0
            if SIZES[line.code & 0x18] == 8 and line.code & 0xe0 == MEMORY:
                if line.source == 10:
                    found = state.get(line.offset, 0)
                elif source & STACK and self.spilled:
                    found = CONTEXT | MOVED | STACK
            state[line.target] = found
        elif line.sort in (ST, STX):
            self._stored(at, line, target, source if line.sort == STX else 0, state)
        elif line.sort in (ALU, ALU64):
            with_register = line.code & 8
            if line.code & 0xf0 == MOVE:
                state[line.target] = source if with_register and line.sort == ALU64 else 0
            else:
                held = target | (source if with_register else 0)
                state[line.target] = (MOVED if held & (CONTEXT | MOVED) else 0) | held & STACK
        elif line.code == CALL:
            for register in range(6):
                state[register] = 0
        if not state.get(10, 0):
            raise Unsealed(f"instruction {at} changes where the stack is")
        return {place: held for place, held in state.items() if held}

    def _stored(self, at: int, line: Instruction, target: int, source: int, state: dict[int, int]) -> None:
        size = SIZES[line.code & 0x18]
        if target & (CONTEXT | MOVED):
            written = set(range(line.offset, line.offset + size))
            if target != CONTEXT or line.code & 0xe0 == ATOMIC or not written <= WRITABLE:
                raise Unsealed(f"instruction {at} writes what the fabric keeps with a packet")
        if source & (CONTEXT | MOVED | STACK):
            if line.target != 10 or size != 8 or line.code & 0xe0 == ATOMIC:
                raise Unsealed(f"instruction {at} puts an address where it cannot be followed")
        if line.target == 10 and size == 8 and line.code & 0xe0 == MEMORY:
            if line.offset >= 0:
                raise Unsealed(f"instruction {at} writes beyond the stack")
            state[line.offset] = source


__all__ = ["HELPERS", "MOST_INSTRUCTIONS", "Unsealed", "check", "seal"]
