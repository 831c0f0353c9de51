"""The programs a watch puts behind functions: look at the filter, write a record, end the packet as it would have.

A function that is watched tail-calls slot *kind* of the watch's array, its verdict's argument in `tc_classid`, which
nothing else of the fabric uses.  A record in the ring is

    u64 time, u32 length, u32 captured, u16 port, u16 argument, u16 tci, u16 tpid, u16 who, u8 kind, u8 hops, u32 cpu

and the first bytes of the packet.  Each program counts its own tail call in `cb[0]`, as the fabric counts all others,
so a watched walk goes around a hop earlier and none ends for having been looked at.

`arrive` stands in front of a function instead, for captures: the packet as it came, and on to the function.
"""
from __future__ import annotations

from dataclasses import dataclass

from ..kernel import AttachType, Map, Program, ProgramKind, ProgramSpec
from ..kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    R10,
    Helper,
    Label,
    Line,
    assemble,
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
from ..targets.bpf import FLOOD_SLOT, HANDED, PUNTED
from .edges import CB, DROP, LENGTH, PASS

HEAD = 32
ARRIVAL = 255
_VLAN_PRESENT, _VLAN_TCI, _VLAN_PROTO, _CLASS = 20, 24, 28, 72
_SLOTS, _DROPS, _RING, _LOST = range(4)         # maps of a program


@dataclass(frozen=True)
class Recorder:
    """What the programs of one stage know: its slots in `slots` begin at `base`; `who` names it in records.  A port or
    reason of -1 is any.
    """

    slots: Map
    base: int
    drops: Map
    ring: Map
    lost: Map
    who: int
    snap: int
    port: int
    reason: int
    tests: tuple[Line, ...]


def record(by: Recorder, kind: int) -> Program:
    """For packets of one kind of verdict."""
    return _load(f"watch{kind}", [
        *_begin(), *_touches(by, kind),
        *([load(R2, R6, _CLASS, 4), jump_if(R2, "!=", by.reason, "other")] if by.reason >= 0 else []),
        *by.tests, *_write(by, kind), Label("other"), *_onward(by, kind)], [by.slots, by.drops, by.ring, by.lost])


def arrive(by: Recorder, behind: Map) -> Program:
    """For packets that come into the function, which is in the first slot of `behind`."""
    return _load("arrive", [
        *_begin(), *_touches(by, ARRIVAL), *by.tests, *_write(by, ARRIVAL), Label("other"),
        move(R1, R6), *tail_call(_SLOTS, 0), *_counted(int(Dropped.UNWIRED)), leave(DROP)],
        [behind, by.drops, by.ring, by.lost])


def _begin() -> list[Line]:
    """R6 the context, R8 what `cb[0]` says; one tail call more was made."""
    return [move(R6, R1), load(R8, R6, CB, 4), move(R2, R8), compute(R2, "+", 1 << 24, 32), store(R6, CB, R2, 4)]


def _touches(by: Recorder, kind: int) -> list[Line]:
    """Only packets that come in by the port, or go out of it."""
    if by.port < 0 or kind == FLOOD_KIND:
        return []
    lines: list[Line] = [move(R2, R8), compute(R2, "&", 0xffff), jump_if(R2, "==", by.port, "touches")]
    if kind == FORWARD_KIND:
        lines += [load(R2, R6, _CLASS, 4), jump_if(R2, "==", by.port, "touches")]
    return [*lines, jump("other"), Label("touches")]


def _write(by: Recorder, kind: int) -> list[Line]:
    return [
        map_index(R1, _RING), move(R2, HEAD + -(-by.snap // 8) * 8), move(R3, 0), call(Helper.RING_RESERVE),
        jump_if(R0, "!=", 0, "room"),
        store(R10, -8, 0), map_index(R1, _LOST), move(R2, R10), compute(R2, "+", -8), call(Helper.MAP_LOOKUP),
        jump_if(R0, "==", 0, "other"), load(R2, R0, 0), compute(R2, "+", 1), store(R0, 0, R2), jump("other"),
        Label("room"), move(R9, R0), call(Helper.CLOCK), store(R9, 0, R0),
        load(R7, R6, LENGTH, 4), store(R9, 8, R7, 4), jump_if(R7, "<=", by.snap, "short"), move(R7, by.snap),
        Label("short"), store(R9, 12, R7, 4), store(R9, 16, R8, 2), load(R2, R6, _CLASS, 4), store(R9, 18, R2, 2),
        store(R9, 20, 0, 4), load(R2, R6, _VLAN_PRESENT, 4), jump_if(R2, "==", 0, "bare"),
        load(R2, R6, _VLAN_TCI, 4), store(R9, 20, R2, 2), load(R2, R6, _VLAN_PROTO, 4), store(R9, 22, R2, 2),
        Label("bare"), store(R9, 24, by.who, 2), store(R9, 26, kind, 1),
        move(R2, R8), compute(R2, ">>", 16), store(R9, 27, R2, 1),
        call(Helper.PROCESSOR), store(R9, 28, R0, 4),
        jump_if(R7, "==", 0, "written"),
        move(R1, R6), move(R2, 0), move(R3, R9), compute(R3, "+", HEAD), move(R4, R7), call(Helper.PACKET_LOAD),
        Label("written"), move(R1, R9), move(R2, 0), call(Helper.RING_SUBMIT)]


def _onward(by: Recorder, kind: int) -> list[Line]:
    """What is left of the function's end: see `Bpf.finish`."""
    if kind == FORWARD_KIND:
        return [load(R7, R6, _CLASS, 4), store(R6, _CLASS, 0, 4), store(R6, CB, R7, 2),
                compute(R7, "+", by.base), move(R1, R6), *tail_call(_SLOTS, R7),
                *_counted(int(Dropped.UNWIRED)), leave(DROP)]
    if kind == FLOOD_KIND:
        return [move(R1, R6), *tail_call(_SLOTS, by.base + FLOOD_SLOT), *_counted(int(Dropped.UNWIRED)), leave(DROP)]
    if kind == HOST_KIND:
        return [store(R6, _CLASS, 0, 4), *_counted(HANDED), leave(PASS)]
    return [*(_counted(PUNTED) if kind == PUNT_KIND else []), leave(DROP)]


def _counted(number: int) -> list[Line]:
    """Count an end in the function's own `@drops`."""
    return [store(R10, -8, 0), map_index(R1, _DROPS), move(R2, R10), compute(R2, "+", -8), call(Helper.MAP_LOOKUP),
            jump_if(R0, "==", 0, f"counted{number}"), load(R2, R0, 8 * number), compute(R2, "+", 1),
            store(R0, 8 * number, R2), Label(f"counted{number}")]


def _load(name: str, lines: list[Line], maps: list[Map]) -> Program:
    spec = ProgramSpec(name, ProgramKind.SCHED_CLS, assemble(*lines), "Dual BSD/GPL",
                       expected_attach_type=AttachType.TCX_INGRESS)
    return Program.load(spec, maps)


__all__ = ["ARRIVAL", "HEAD", "Recorder", "arrive", "record"]
