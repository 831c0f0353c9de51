"""The programs between functions: a dozen instructions each, assembled without LLVM.

    entry     tcx ingress of a device       cb[0] = port, metadata 0, on to the function
    output    slot of @next                 out of a device
    hop       slot of @next                 cb[0] = the peer's port, hops + 1, on to the next function
    flood     slot of @next                 a clone to every other port
    again     tcx ingress of the network's  a clone that was meant for a function begins its walk there
              recirculation device
    leaving   tcx egress of a device        the function's egress, for clones; packets in line have been through it
    passed    slot of @next at that hook    let the packet go

`cb[0]` is the port in its low half and the number of hops in its high half.  A loop of functions ends after `MOST_HOPS`
with a named drop; the kernel's own limit, 33 tail calls, lies behind it.

Packets that are forwarded leave by `bpf_redirect_peer` where the device is a veth whose other end is the workload:
that skips a device hop, a third of the cost.  It also skips the device's egress hook, so the function's egress runs
*before*, in line; a clone passes it at the hook.  A device that is no such veth would run it twice, so the in-line
stage is left out.

Every program counts what passes (per CPU, packets and bytes) and ends in a drop if the slot it wants is empty: nothing
passes an edge that leads nowhere.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..kernel import AttachType, Map, Program, ProgramKind, ProgramSpec
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
    Register,
    assemble,
    call,
    compute,
    jump,
    jump_if,
    leave,
    load,
    map_index,
    map_value,
    move,
    store,
    tail_call,
)
from ..language.ports import MOST as PORTS
from ..language.verdicts import Dropped

LENGTH, MARK, CB = 0, 8, 48
PASS, DROP = 0, 2
MOST_HOPS = 16
WIRE_BITS, INGRESS_FLAG = 24, 1


@dataclass(frozen=True)
class Edge:
    """A device, by its interface index in the switching namespace.

    `peer`: it is a veth whose other end, in another namespace, is the workload.
    """

    index: int
    peer: bool = True


@dataclass(frozen=True)
class Count:
    """Where a program counts: an index of a per-CPU array of {u64 packets, u64 bytes}; drops by reason beside it."""

    array: Map
    index: int
    drops: Map

    def passed(self) -> list[Line]:
        """Add one packet.  R6 holds the context; R0 to R5 are lost."""
        label = f"counted{self.index}"
        return [store(R10, -4, self.index, 4), map_index(R1, 0), move(R2, R10), compute(R2, "+", -4),
                call(Helper.MAP_LOOKUP), jump_if(R0, "==", 0, label), *_add(0, 1),
                load(R2, R6, LENGTH, 4), *_add(8, R2), Label(label)]

    def dropped(self, reason: Dropped) -> list[Line]:
        """Count a drop of the fabric and drop."""
        return [store(R10, -4, int(reason), 4), map_index(R1, 1), move(R2, R10), compute(R2, "+", -4),
                call(Helper.MAP_LOOKUP), jump_if(R0, "==", 0, f"lost{reason}"), *_add(0, 1), Label(f"lost{reason}"),
                leave(DROP)]

    @property
    def maps(self) -> list[Map]:
        return [self.array, self.drops]


def _add(offset: int, what: Register | int) -> list[Line]:
    """Add to a word of the entry R0 points at."""
    return [load(R3, R0, offset), compute(R3, "+", what), store(R0, offset, R3)]


def entry(port: int, root: Map, count: Count) -> Program:
    """A packet comes out of a device and into a function."""
    return _load(f"entry{port}", [
        move(R6, R1), *_begin(port), *count.passed(), move(R1, R6), tail_call(2, 0),
        *count.dropped(Dropped.UNWIRED)], [*count.maps, root])


def leaving(port: int, root: Map) -> Program:
    """A clone is about to leave through a device: the function's egress looks at it."""
    return _load(f"leaving{port}", [move(R6, R1), *_begin(port), move(R1, R6), tail_call(0, 0), leave(DROP)], [root])


def output(edge: Edge, count: Count) -> Program:
    """Out of a device."""
    helper = Helper.REDIRECT_PEER if edge.peer else Helper.REDIRECT
    return _load(f"out{edge.index}", [
        move(R6, R1), *count.passed(), move(R1, edge.index), move(R2, 0), call(helper), leave()], count.maps)


def hop(port: int, root: Map, count: Count) -> Program:
    """Into the next function, through its `port`."""
    return _load(f"hop{port}", [
        move(R6, R1), load(R7, R6, CB, 4), compute(R7, ">>", 16), compute(R7, "+", 1),
        jump_if(R7, ">", MOST_HOPS, "looping"),
        compute(R7, "<<", 16), compute(R7, "|", port), store(R6, CB, R7, 4),
        *count.passed(), move(R1, R6), tail_call(2, 0), *count.dropped(Dropped.UNWIRED),
        Label("looping"), *count.dropped(Dropped.HOPS)], [*count.maps, root])


def passed() -> Program:
    """Let the packet go its way."""
    return _load("passed", [leave(PASS)], [])


def again(wires: Map, count: Count) -> Program:
    """A recirculated clone: its mark says through which wire it enters, and how many hops it has made.

    What has made none is the device's own chatter (IPv6 looks for neighbours on every device), no packet of the
    network.
    """
    return _load("again", [
        move(R6, R1), load(R7, R6, MARK, 4), move(R8, R7), compute(R8, ">>", WIRE_BITS),
        jump_if(R8, "==", 0, "stranger"), compute(R8, "<<", 16),
        *_begin(0), store(R6, CB, R8, 4), store(R6, MARK, 0, 4), compute(R7, "&", (1 << WIRE_BITS) - 1),
        move(R1, R6), map_index(R2, 2), move(R3, R7), call(Helper.TAIL_CALL),
        *count.dropped(Dropped.UNWIRED), Label("stranger"), leave(DROP)], [*count.maps, wires])


def flood(members: Map, ports: int, count: Count) -> Program:
    """A clone to every member but the port the packet came from.

    `members` holds, by port, {u32 device, u32 wire}: a device of ours and wire 0, or the recirculation device and the
    wire through which the clone enters the next function.  A clone shares the bytes; whoever changes them first
    copies.
    """
    return _load("flood", [
        move(R6, R1), *count.passed(),
        load(R8, R6, CB, 4), load(R2, R6, MARK, 4), store(R10, -16, R2),
        move(R2, R8), compute(R2, ">>", 16), compute(R2, "+", 1), store(R10, -24, R2), compute(R8, "&", 0xffff),
        map_value(R9, 2), move(R7, 0),
        Label("next"),
        jump_if(R7, "==", R8, "skip"),
        load(R2, R9, 0, 4), jump_if(R2, "==", 0, "skip"),
        load(R3, R9, 4, 4), jump_if(R3, "!=", 0, "wired"),
        move(R1, R6), move(R3, 0), call(Helper.CLONE_REDIRECT), jump("skip"),
        Label("wired"),
        load(R0, R10, -24), jump_if(R0, ">", MOST_HOPS, "skip"),
        compute(R0, "<<", WIRE_BITS), compute(R3, "|", R0), store(R6, MARK, R3, 4),
        move(R1, R6), move(R3, INGRESS_FLAG), call(Helper.CLONE_REDIRECT),
        load(R2, R10, -16), store(R6, MARK, R2, 4),
        Label("skip"),
        compute(R9, "+", 8), compute(R7, "+", 1), jump_if(R7, "<", max(ports, 1), "next"),
        load(R0, R10, -24), jump_if(R0, ">", MOST_HOPS, "looping"), leave(DROP),
        Label("looping"), *count.dropped(Dropped.HOPS)], [*count.maps, members])


def _begin(port: int) -> list[Line]:
    """A fresh context: the port, no hops, no metadata."""
    return [store(R6, CB, port, 4), *(store(R6, CB + 4 * i, 0, 4) for i in range(1, 5))]


def _load(name: str, lines: Sequence[Line], maps: list[Map]) -> Program:
    spec = ProgramSpec(name[:15], ProgramKind.SCHED_CLS, assemble(*lines), "Dual BSD/GPL",
                       expected_attach_type=AttachType.TCX_INGRESS)
    return Program.load(spec, maps)


__all__ = ["MOST_HOPS", "PORTS", "Count", "Edge", "again", "entry", "flood", "hop", "leaving", "output", "passed"]
