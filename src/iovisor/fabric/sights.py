"""How a watch's programs see a packet: at tcx, and at XDP.

What differs is few things and the same ones everywhere: where the verdict's argument is left, where the outer tag lies
(beside the bytes at tcx, among them at XDP), which helper reads bytes, and how a packet goes on.  A record is the same,
wherever it was made: frames without their tag, which stands beside them.

R6 holds the context, R8 the port in its low half (at tcx hops and tail calls above it).  R9 is the record while one is
written, R7 the length.
"""
from __future__ import annotations

from collections.abc import Sequence

from ..kernel import Map, ProgramKind
from ..kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    Helper,
    Label,
    Line,
    Register,
    big_endian,
    call,
    compute,
    jump,
    jump_if,
    leave,
    load,
    map_index,
    move,
    store,
    tail_call,
)
from ..language.verdicts import FLOOD_KIND, FORWARD_KIND, HOST_KIND, PUNT_KIND, Dropped
from ..targets.bpf import FLOOD_SLOT, HANDED, HOST_SLOT, PUNTED
from ..targets.bpf_loaded import BpfLoaded
from .edges import CB, CLASS, DROP, LENGTH, PASS

HEAD = 32                                       # of a record: see recorders.py
SLOTS, DROPS, CONTEXT = range(3)                # maps of a program
_VLAN_PRESENT, _VLAN_TCI, _VLAN_PROTO = 20, 24, 28


class Sight:
    """At tcx."""

    kind = ProgramKind.SCHED_CLS
    maps: tuple[str, ...] = ("@next", "@drops")
    helper = Helper.PACKET_LOAD
    dropped, passed = DROP, PASS

    def of(self, loaded: BpfLoaded) -> list[Map]:
        """The maps that every program has."""
        return [loaded.maps[name] for name in self.maps]

    def begin(self) -> list[Line]:
        """One tail call more was made, and is counted as the fabric counts all others."""
        return [move(R6, R1), load(R8, R6, CB, 4), move(R2, R8), compute(R2, "+", 1 << 24, 32), store(R6, CB, R2, 4)]

    def end(self) -> list[Line]:
        """Behind everything else of the program."""
        return []

    def argument(self) -> list[Line]:
        """R2: of the verdict."""
        return [load(R2, R6, CLASS, 4)]

    def length(self) -> list[Line]:
        """R7: bytes of the frame, without its tag."""
        return [load(R7, R6, LENGTH, 4)]

    def vlan(self) -> list[Line]:
        """R2: the outer tag's; a frame without one goes to `other`."""
        return [load(R2, R6, _VLAN_PRESENT, 4), jump_if(R2, "==", 0, "other"), load(R2, R6, _VLAN_TCI, 4),
                compute(R2, "&", 0xfff)]

    def tag(self) -> list[Line]:
        """Into the record, at 20: u16 tci, u16 tpid as it lies in a frame; 0 if there is none."""
        return [store(R9, 20, 0, 4), load(R2, R6, _VLAN_PRESENT, 4), jump_if(R2, "==", 0, "bare"),
                load(R2, R6, _VLAN_TCI, 4), store(R9, 20, R2, 2), load(R2, R6, _VLAN_PROTO, 4), store(R9, 22, R2, 2),
                Label("bare")]

    def fetch(self, offset: int | Register, place: int, size: int) -> list[Line]:
        """Bytes of the frame, counted without its tag, to the stack; a frame that is too short goes to `other`."""
        return [move(R1, R6), move(R2, offset), *self._fetched(place, size)]

    def _fetched(self, place: int, size: int) -> list[Line]:
        return [move(R3, R10), compute(R3, "+", place), move(R4, size), call(self.helper),
                jump_if(R0, "!=", 0, "other")]

    def copy(self) -> list[Line]:
        """So many bytes of the frame as R7 says, one at least, behind the record's head."""
        return self._copied(0, HEAD, 0)

    def _copied(self, offset: int, to: int, less: int) -> list[Line]:
        return [move(R1, R6), move(R2, offset), move(R3, R9), compute(R3, "+", to), move(R4, R7),
                *([compute(R4, "-", less)] if less else []), call(self.helper)]

    def forward(self, base: int) -> Sequence[Line]:
        """Out of the port in the argument."""
        return [load(R7, R6, CLASS, 4), store(R6, CLASS, 0, 4), store(R6, CB, R7, 2), compute(R7, "+", base),
                move(R1, R6), *tail_call(SLOTS, R7)]

    def host(self, base: int) -> Sequence[Line]:
        """To the host."""
        return [store(R6, CLASS, 0, 4)]

    def onward(self, base: int, kind: int) -> list[Line]:
        """What is left of the function's end: see `Bpf.finish`."""
        lost = [*counted(int(Dropped.UNWIRED)), leave(self.dropped)]
        if kind == FORWARD_KIND:
            return [*self.forward(base), *lost]
        if kind == FLOOD_KIND:
            return [move(R1, R6), *tail_call(SLOTS, base + FLOOD_SLOT), *lost]
        if kind == HOST_KIND:
            return [*self.host(base), *counted(HANDED), leave(self.passed)]
        return [*(counted(PUNTED) if kind == PUNT_KIND else []), leave(self.dropped)]


class Early(Sight):
    """At XDP: the context and the tag are looked up at the beginning, and lie on the stack."""

    kind = ProgramKind.XDP
    maps = ("@next", "@drops", "@context")
    helper = Helper.XDP_LOAD
    dropped, passed = 1, 2
    context, shift, tci, tpid = -80, -88, -96, -104

    def begin(self) -> list[Line]:
        return [move(R6, R1), store(R10, -8, 0), map_index(R1, CONTEXT), move(R2, R10), compute(R2, "+", -8),
                call(Helper.MAP_LOOKUP), jump_if(R0, "==", 0, "gone"), store(R10, self.context, R0), load(R8, R0, 0, 2),
                store(R10, self.shift, 0), store(R10, self.tci, 0), store(R10, self.tpid, 0),
                load(R2, R6, 0, 4), load(R3, R6, 4, 4), move(R4, R2), compute(R4, "+", 18),
                jump_if(R4, ">", R3, "seen"), load(R5, R2, 12, 2), jump_if(R5, "==", 0x0081, "tag"),
                jump_if(R5, "!=", 0xa888, "seen"), Label("tag"),
                store(R10, self.tpid, R5), store(R10, self.shift, 4), load(R5, R2, 14, 2), big_endian(R5, 16),
                store(R10, self.tci, R5), Label("seen")]

    def end(self) -> list[Line]:
        return [Label("gone"), leave(self.dropped)]

    def argument(self) -> list[Line]:
        return [load(R2, R10, self.context), load(R2, R2, 2, 2)]

    def length(self) -> list[Line]:
        return [load(R7, R6, 4, 4), load(R2, R6, 0, 4), compute(R7, "-", R2), load(R2, R10, self.shift),
                compute(R7, "-", R2)]

    def vlan(self) -> list[Line]:
        return [load(R2, R10, self.shift), jump_if(R2, "==", 0, "other"), load(R2, R10, self.tci),
                compute(R2, "&", 0xfff)]

    def tag(self) -> list[Line]:
        return [load(R2, R10, self.tci), store(R9, 20, R2, 2), load(R2, R10, self.tpid), store(R9, 22, R2, 2)]

    def fetch(self, offset: int | Register, place: int, size: int) -> list[Line]:
        if offset == 0 and not isinstance(offset, Register):    # the Ethernet header, whose end lies behind the tag
            return [*super().fetch(0, place, 12), *self.fetch(12, place + 12, size - 12)]
        return [move(R1, R6), move(R2, offset), load(R3, R10, self.shift), compute(R2, "+", R3),
                *self._fetched(place, size)]

    def copy(self) -> list[Line]:
        return [load(R2, R10, self.shift), jump_if(R2, "!=", 0, "tagged"), *self._copied(0, HEAD, 0), jump("copied"),
                Label("tagged"), jump_if(R7, "<=", 12, "copied"),
                move(R1, R6), move(R2, 0), move(R3, R9), compute(R3, "+", HEAD), move(R4, 12), call(self.helper),
                *self._copied(16, HEAD + 12, 12), Label("copied")]

    def forward(self, base: int) -> Sequence[Line]:
        return [load(R2, R10, self.context), load(R7, R2, 2, 2), store(R2, 0, R7, 2), compute(R7, "+", base),
                move(R1, R6), *tail_call(SLOTS, R7)]

    def host(self, base: int) -> Sequence[Line]:
        return [move(R1, R6), *tail_call(SLOTS, base + HOST_SLOT)]


def counted(number: int) -> list[Line]:
    """Count an end in the function's own `@drops`."""
    return [store(R10, -8, 0), map_index(R1, DROPS), move(R2, R10), compute(R2, "+", -8), call(Helper.MAP_LOOKUP),
            jump_if(R0, "==", 0, f"counted{number}"), load(R2, R0, 8 * number), compute(R2, "+", 1),
            store(R0, 8 * number, R2), Label(f"counted{number}")]


SIGHTS: dict[str, Sight] = {"tc": Sight(), "xdp": Early()}      # by target

__all__ = ["HEAD", "SIGHTS", "SLOTS", "Sight", "counted"]
