"""The programs a watch puts behind functions: look at the filter, write a record, end the packet as it would have.

A function that is watched tail-calls slot *kind* of the watch's array, its verdict's argument in `tc_classid`, which
nothing else of the fabric uses, or at XDP in the context.  A record in the ring is

    u64 time, u32 length, u32 captured, u16 port, u16 argument, u16 tci, u16 tpid, u16 who, u8 kind, u8 hops, u32 cpu

and the first bytes of the packet.  Each program counts its own tail call in `cb[0]`, as the fabric counts all others,
so a watched walk goes around a hop earlier and none ends for having been looked at.

What stands in a function's door instead, for captures, records the packet as it came, and goes on to the function.

Several watches of an instance share these programs: each looks at the packet in turn, and the end is one.  So a watch
more costs no tail call more.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..kernel import Map, MapKind, MapSpec, Program, ProgramSpec
from ..kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
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
from ..language.verdicts import FLOOD_KIND, FORWARD_KIND, KINDS, Dropped
from ..targets.bpf_loaded import BpfLoaded
from .filters import Filter
from .sights import HEAD, SIGHTS, SLOTS, Sight, counted

if TYPE_CHECKING:
    from .early import Early
    from .instance import Instance

INGRESS = "ingress"

ARRIVAL = 255


@dataclass(frozen=True, eq=False)
class Watcher:
    """What one watch records of one instance: packets of these kinds of verdict; `who` it is in records, by stage.  A
    port or reason of -1 is any.  With `arrivals`, also what comes in, before the function deals with it.
    """

    ring: Map
    lost: Map
    who: Mapping[str, int]
    snap: int
    port: int
    reason: int
    filter: Filter
    kinds: frozenset[int]
    arrivals: bool


def arm(instance: Instance) -> list[Map | Program]:
    """Make what stands behind a function, and in front of it, what its present watchers want; at TC and at XDP.

    Answers what they want no more, to be closed when no packet is there.  Programs that were loaded without the branch,
    or with it for nobody, are the caller's business, as is what stands in doors.
    """
    gone = _arm(instance.loaded, instance.taps, instance.watchers)
    return gone if instance.early is None else gone + arm_early(instance.early, instance.watchers)


def arm_early(early: Early, watchers: list[Watcher]) -> list[Map | Program]:
    """The same at XDP alone."""
    return _arm(early, early.taps, watchers)


def _arm(loaded: BpfLoaded, taps: dict[str, Program], watchers: list[Watcher]) -> list[Map | Program]:
    gone = list[Map | Program]()
    for stage in loaded.stages:
        array = loaded.watches.get(stage)
        if array is None and not watchers:
            continue
        if array is None:
            array = loaded.watches[stage] = Map.create(MapSpec("watch", MapKind.PROGRAM_ARRAY, 4, 4, len(KINDS)))
        for kind in range(len(KINDS)):
            wanted = [watcher for watcher in watchers if kind in watcher.kinds]
            if not wanted:
                array.delete(kind.to_bytes(4, "little"))
                continue
            with _record(loaded, stage, wanted, kind) as program:
                array.store(kind.to_bytes(4, "little"), program)
        if not watchers:
            gone.append(loaded.watches.pop(stage))
    if INGRESS in taps:
        gone.append(taps.pop(INGRESS))
    if arrivals := [watcher for watcher in watchers if watcher.arrivals]:
        taps[INGRESS] = _arrive(loaded, arrivals)
    return gone


def _record(loaded: BpfLoaded, stage: str, watchers: list[Watcher], kind: int) -> Program:
    """For packets of one kind of verdict."""
    sight = SIGHTS[loaded.target]
    lines = sight.begin()
    for number, by in enumerate(watchers):
        lines += _apart(number, [
            *_touches(sight, by, kind),
            *([*sight.argument(), jump_if(R2, "!=", by.reason, "other")] if by.reason >= 0 else []),
            *by.filter.tests(sight), *_write(sight, by, kind, number, by.who[stage]), Label("other")])
    return _load(f"watch{kind}", [*lines, *sight.onward(loaded.bases[stage], kind), *sight.end()], loaded, watchers)


def _arrive(loaded: BpfLoaded, watchers: list[Watcher]) -> Program:
    """For packets that come into the function, which is in the slot behind its door."""
    sight = SIGHTS[loaded.target]
    lines = sight.begin()
    for number, by in enumerate(watchers):
        lines += _apart(number, [*_touches(sight, by, ARRIVAL), *by.filter.tests(sight),
                                 *_write(sight, by, ARRIVAL, number, by.who[INGRESS]), Label("other")])
    return _load("arrive", [*lines, move(R1, R6), *tail_call(SLOTS, loaded.behind(INGRESS)),
                            *counted(int(Dropped.UNWIRED)), leave(sight.dropped), *sight.end()], loaded, watchers)


def _apart(number: int, lines: list[Line]) -> list[Line]:
    """The same with labels of its own."""
    found: list[Line] = []
    for part in (part for line in lines for part in (line if isinstance(line, Sequence) else (line,))):
        if isinstance(part, Label):
            found.append(Label(f"{part.name}/{number}"))
        else:
            found.append(replace(part, target=f"{part.target}/{number}") if part.target else part)
    return found


def _touches(sight: Sight, by: Watcher, kind: int) -> list[Line]:
    """Only packets that come in by the port, or go out of it."""
    if by.port < 0 or kind == FLOOD_KIND:
        return []
    lines: list[Line] = [move(R2, R8), compute(R2, "&", 0xffff), jump_if(R2, "==", by.port, "touches")]
    if kind == FORWARD_KIND:
        lines += [*sight.argument(), jump_if(R2, "==", by.port, "touches")]
    return [*lines, jump("other"), Label("touches")]


def _write(sight: Sight, by: Watcher, kind: int, number: int, who: int) -> list[Line]:
    ring = len(sight.maps) + 2 * number
    return [
        map_index(R1, ring), move(R2, HEAD + -(-by.snap // 8) * 8), move(R3, 0), call(Helper.RING_RESERVE),
        jump_if(R0, "!=", 0, "room"),
        store(R10, -8, 0), map_index(R1, ring + 1), move(R2, R10), compute(R2, "+", -8), call(Helper.MAP_LOOKUP),
        jump_if(R0, "==", 0, "other"), load(R2, R0, 0), compute(R2, "+", 1), store(R0, 0, R2), jump("other"),
        Label("room"), move(R9, R0), call(Helper.CLOCK), store(R9, 0, R0),
        *sight.length(), store(R9, 8, R7, 4), jump_if(R7, "<=", by.snap, "short"), move(R7, by.snap),
        Label("short"), store(R9, 12, R7, 4), store(R9, 16, R8, 2), *sight.argument(), store(R9, 18, R2, 2),
        *sight.tag(), store(R9, 24, who, 2), store(R9, 26, kind, 1),
        move(R2, R8), compute(R2, ">>", 16), store(R9, 27, R2, 1),
        call(Helper.PROCESSOR), store(R9, 28, R0, 4),
        jump_if(R7, "==", 0, "written"), *sight.copy(),
        Label("written"), move(R1, R9), move(R2, 0), call(Helper.RING_SUBMIT)]


def _load(name: str, lines: list[Line], loaded: BpfLoaded, watchers: list[Watcher]) -> Program:
    sight = SIGHTS[loaded.target]
    spec = ProgramSpec(name, sight.kind, assemble(*lines), "Dual BSD/GPL", expected_attach_type=loaded.attach)
    rings = [found for watcher in watchers for found in (watcher.ring, watcher.lost)]
    return Program.load(spec, [*sight.of(loaded), *rings])


__all__ = ["ARRIVAL", "HEAD", "Watcher", "arm", "arm_early"]
