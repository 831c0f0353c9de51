"""The programs between functions: a dozen instructions each, assembled without LLVM.

    entry     tcx ingress of a device       cb[0] = port, metadata 0, on to the function
    output    slot of a port                out of a device
    hop       slot of a port                cb[0] = the peer's port, hops + 1, on to the next function
    enter     slot of the wires             cb[0] = a port, on to a function or its egress: clones, and the slow path
    flood     slot behind the ports         a clone to every other port, or to those of a set
    again     tcx ingress of the network's  a clone that was meant for a function begins its walk there
              recirculation device
    leaving   tcx egress of a device        the function's egress, for clones; packets in line have been through it;
                                            while a revision turns the device, the egress of the wiring they walk in
    passed    slot of @next at that hook    let the clone go

`cb[0]` is the port in its low half, then 8 bits of hops and 8 of tail calls made.  A loop of functions ends after
`MOST_HOPS` with a named drop.  The kernel's own limit is 33 tail calls, two or three a function: a walk that nears it
goes once around the recirculation device and on from there.

Packets that are forwarded leave by `bpf_redirect_peer` where the device is a veth whose other end is the workload:
that skips a device hop, a third of the cost.  It also skips the device's egress hook, so the function's egress runs
*before*, in line; a clone passes it at the hook.  A device that is no such veth would run it twice, so the in-line
stage is left out.

What is on its way to a hook says in `tc_index` which wiring it walks in, by a *token*: clones, and what is sent to a
device that is no peer.  Only a hook that is being turned looks at it.

The kernel drops what is longer than a device's MTU without a word.  So what is longer is looked at before it is sent
(an aggregate by what it will be cut into), and dropped by name; for all others that is one comparison with a constant.

Every program counts what passes (per CPU, packets and bytes) and ends in a drop if the slot it wants is empty: nothing
passes an edge that leads nowhere.
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ParamSpec

from ..kernel import AttachType, Map, Program, ProgramKind, ProgramSpec
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
    Instruction,
    Label,
    Line,
    Register,
    add_atomically,
    assemble,
    call,
    compute,
    function,
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
from ..kernel.btf import Types
from ..language.ports import MOST as PORTS
from ..language.verdicts import Dropped
from .counters import Total
from .hooks import Hook, hook
from .storm import CHEAPER

LENGTH, MARK, TOKEN, CB, CLASS = 0, 8, 44, 48, 72
ETHERNET = 14                   # bytes of a frame that its device's MTU does not count
PASS, DROP, NEXT = 0, 2, -1
MOST_HOPS = 16
TAIL_CALLS = 33
WIRE_BITS, INGRESS_FLAG = 24, 1
FROM_PYTHON = 1 << WIRE_BITS - 1        # in the mark: the frame came from Python, and brings no metadata
SEGMENTS = 1                    # BPF_MTU_CHK_SEGS: what an aggregate will be cut into counts, not the aggregate
# They stand for what differs from network to network: what remains is assembled once.
BLANKS = 0x7d1a2b3c, 0x7d4c5e6f, 0x7d2b6e31, 0x7d5a1c47
SHAPES = 4096
Lines = list[Line]
Shape = ParamSpec("Shape")


def code(lines: Callable[Shape, Lines]) -> Callable[Shape, bytes]:
    """The bytes of a program, kept for the next of its shape, which is what the arguments say."""
    def assembled(*shape: Shape.args, **named: Shape.kwargs) -> bytes:
        return assemble(*lines(*shape, **named))
    return lru_cache(SHAPES)(assembled)     # type: ignore[return-value]


@dataclass(frozen=True)
class Edge:
    """A device, by its interface index in the switching namespace.

    `peer`: packets may be handed to the other end of a veth; they are if that is in another namespace and nothing would
    be left out by it.  `hook` is where its packets are met.  What `Network.attach` answers says what became of both,
    and the device's `mtu` (0 for unlimited).
    """

    index: int
    peer: bool = True
    mtu: int = 0
    hook: str = Hook.TC

    def __post_init__(self) -> None:
        object.__setattr__(self, "hook", hook(self.hook))


@dataclass(frozen=True)
class Door:
    """A slot that leads somewhere: into a stage of an instance, or out of one."""

    array: Map
    slot: int


@dataclass(frozen=True)
class Way:
    """Out of a port, through the egress behind a door, in the wiring of a token."""

    port: int
    door: Door
    token: int


@dataclass(frozen=True)
class Count:
    """Where a program counts: the number of one {u64 packets, u64 bytes} in the only value of a per-CPU array (-1: what
    nobody asks for); and the account of its network, where drops of the fabric and totals are counted.
    """

    array: Map
    number: int
    account: Map

    @property
    def maps(self) -> list[Map]:
        """The first two of a program that counts."""
        return [self.array, self.account]


def counted(number: int, label: str = "counted", array: int = 0, length: Instruction | None = None) -> list[Line]:
    """Add one packet to a number.  R6 holds the context, or `length` loads R2; R0 to R5 are lost.

    Who counts in two places gives the second a label; `array` is the place of the map among the program's.
    """
    if number < 0:
        return []
    at = 16 * number
    return [*value(array), jump_if(R0, "==", 0, label), *_add(at, 1), length or load(R2, R6, LENGTH, 4),
            *_add(at + 8, R2), Label(label)]


def total(number: Total, by: int = 1) -> list[Line]:
    """Add one to a number of the account, or so many."""
    return [*value(1), jump_if(R0, "==", 0, f"total{number}"), *_add(8 * number, by), Label(f"total{number}")]


def lost(reason: Dropped) -> list[Line]:
    """Add a drop of the fabric."""
    return [*value(1), jump_if(R0, "==", 0, f"lost{reason}"), *_add(8 * reason, 1), Label(f"lost{reason}")]


def dropped(reason: Dropped) -> list[Line]:
    """Count a drop of the fabric and drop."""
    return [*lost(reason), leave(DROP)]


def value(array: int) -> list[Line]:
    """R0 = the only value of the map in that place, this CPU's."""
    return [store(R10, -8, 0), map_index(R1, array), move(R2, R10), compute(R2, "+", -8), call(Helper.MAP_LOOKUP)]


def _add(offset: int, what: Register | int) -> list[Line]:
    """Add to a word of the value R0 points at."""
    return [load(R3, R0, offset), compute(R3, "+", what), store(R0, offset, R3)]


def entry(port: int, door: Door, count: Count, claim: Map | None = None) -> Program:
    """A packet comes out of a device and into a function; `claim` is what others are told who has the device."""
    return loaded(f"entry{port}", _entry(port, door.slot, count.number, claim is not None),
                  [*count.maps, door.array, *([claim] if claim else [])])


@code
def _entry(port: int, slot: int, number: int, claimed: bool) -> Lines:
    return [move(R6, R1), *([map_index(R2, 3)] if claimed else []), *begin(port),
            *counted(number), move(R1, R6), tail_call(2, slot), *dropped(Dropped.UNWIRED)]


def leaving(way: Way, count: Count) -> Program:
    """A clone is about to leave through a device: the function's egress looks at it.

    It finds no metadata: what the machine itself sends comes by here too, and has something else in that place.
    """
    return loaded(f"leaving{way.port}", _leaving(way.port, way.door.slot), [*count.maps, way.door.array])


@code
def _leaving(port: int, slot: int) -> Lines:
    return [move(R6, R1), *_through(port, slot, 2), *dropped(Dropped.UNWIRED)]


def turning(former: Way | None, way: Way | None, count: Count) -> Program:
    """The same while a device is turned from one wiring to another: each clone meets the egress of its own, if that has
    one.  What the machine itself sends walks in neither.
    """
    if former is None or way is None:
        only = former or way
        assert only is not None
        return loaded(f"leaving{only.port}", _only(only.port, only.door.slot), [*count.maps, only.door.array],
                      blanks=(only.token,))
    return loaded(f"leaving{way.port}", _either(way.port, way.door.slot, former.port, former.door.slot),
                  [*count.maps, way.door.array, former.door.array], blanks=(former.token,))


@code
def _only(port: int, slot: int) -> Lines:
    return [move(R6, R1), load(R2, R6, TOKEN, 4), jump_if(R2, "!=", BLANKS[0], "other"), *_through(port, slot, 2),
            *dropped(Dropped.UNWIRED), Label("other"), leave(NEXT)]


@code
def _either(port: int, slot: int, former: int, behind: int) -> Lines:
    return [move(R6, R1), load(R2, R6, TOKEN, 4), jump_if(R2, "==", BLANKS[0], "former"), *_through(port, slot, 2),
            jump("lost"), Label("former"), *_through(former, behind, 3), Label("lost"), *dropped(Dropped.UNWIRED)]


def _through(port: int, slot: int, array: int) -> list[Line]:
    return [*begin(port), move(R1, R6), *tail_call(array, slot)]


def output(edge: Edge, count: Count, token: int) -> Program:
    """Out of a device; `token` is that of the wiring."""
    return loaded(f"out{edge.index}", _output(edge.peer, edge.mtu, count.number), count.maps,
                  blanks=(edge.index, token))


def _says(token: int) -> list[Line]:
    """The packet says in which wiring it walks."""
    return [move(R2, token), store(R6, TOKEN, R2, 4)]


@code
def _output(peer: bool, mtu: int, number: int) -> Lines:
    return [move(R6, R1), *fits(Edge(BLANKS[0], peer, mtu)), *counted(number),
            *([] if peer else _says(BLANKS[1])), move(R1, BLANKS[0]), move(R2, 0),
            call(Helper.REDIRECT_PEER if peer else Helper.REDIRECT), leave()]


def fits(edge: Edge) -> list[Line]:
    """Drop what is too long for the device."""
    if not edge.mtu:
        return []
    return [load(R2, R6, LENGTH, 4), jump_if(R2, "<=", edge.mtu + ETHERNET, "fits"),
            *_asked(edge.index), jump_if(R0, "s<=", 0, "fits"), *dropped(Dropped.TOO_LONG), Label("fits")]


def _asked(device: int | Register) -> list[Line]:
    """R0: above 0 if the packet is too long for the device, as it is now; R1 to R5 are lost, and 4 bytes at R10 - 8."""
    return [move(R2, device), store(R10, -8, 0, 4), move(R1, R6), move(R3, R10), compute(R3, "+", -8), move(R4, 0),
            move(R5, SEGMENTS), call(Helper.CHECK_MTU)]


@dataclass(frozen=True)
class Crossing:
    """What a hop knows of both ends: where what the next port receives is counted, the tail calls the function it comes
    from takes, those of the next, and where the packet goes if there are too few left.
    """

    received: Count
    made: int
    needed: int
    device: int
    wire: int


def hop(port: int, door: Door, count: Count, crossing: Crossing) -> Program:
    """Into the next function, through its `port`."""
    return loaded(f"hop{port}", _hop(port, door.slot, count.number, crossing.received.number, crossing.made,
                                     crossing.needed),
                  [*count.maps, door.array, crossing.received.array], blanks=(crossing.device, crossing.wire))


@code
def _hop(port: int, slot: int, sent: int, received: int, made: int, needed: int) -> Lines:
    # The port's half has just been stored by itself: a load of both would wait until that has reached the cache.
    return [move(R6, R1), load(R7, R6, CB + 2, 2), compute(R7, "+", 1 | made << 8),
            move(R8, R7), compute(R8, "&", 0xff), jump_if(R8, ">", MOST_HOPS, "looping"),
            jump_if(R7, ">=", TAIL_CALLS - needed << 8, "around"),
            compute(R7, "<<", 16), compute(R7, "|", port), store(R6, CB, R7, 4),
            *counted(sent), *counted(received, "received", 3), move(R1, R6), tail_call(2, slot),
            *dropped(Dropped.UNWIRED),
            Label("around"), *total(Total.ROUND),
            compute(R8, "<<", WIRE_BITS), compute(R8, "|", BLANKS[1]), store(R6, MARK, R8, 4),
            move(R1, BLANKS[0]), move(R2, INGRESS_FLAG), call(Helper.REDIRECT), leave(),
            Label("looping"), *dropped(Dropped.HOPS)]


def enter(port: int, door: Door, count: Count) -> Program:
    """Through a `port` of a function: into it, no hop counted; or out of it, as what its ingress forwards."""
    return loaded(f"enter{port}", _enter(port, door.slot), [*count.maps, door.array])


@code
def _enter(port: int, slot: int) -> Lines:
    return [move(R6, R1), load(R7, R6, CB, 4), compute(R7, "|", port), store(R6, CB, R7, 4),
            tail_call(2, slot), *dropped(Dropped.UNWIRED)]


def arrive(arrived: Map, count: Count) -> Program:
    """A frame of ours that only says that it has come: it is counted in `arrived`, and not as a packet."""
    return loaded("arrive", assemble(
        move(R6, R1), *total(Total.INJECTED, -1), map_value(R1, 2), move(R2, 1), add_atomically(R1, 0, R2),
        leave(DROP)), [*count.maps, arrived])


def passed(count: Count) -> Program:
    """Let a clone go its way."""
    return loaded("passed", _passed(count.number), count.maps)


@code
def _passed(number: int) -> Lines:
    return [move(R6, R1), *counted(number), leave(PASS)]


def again(wires: Map, count: Count) -> Program:
    """A packet that came around: its mark says on which wire it goes on, and how many hops it has made, plus one.

    Its metadata came with it; a frame from Python has none.  What has no mark is the device's own chatter (IPv6 looks
    for neighbours on every device), no packet of the network.
    """
    return loaded("again", _again(), [*count.maps, wires])


@code
def _again() -> Lines:
    return [move(R6, R1), load(R7, R6, MARK, 4), move(R8, R7), compute(R8, ">>", WIRE_BITS),
            jump_if(R8, "==", 0, "stranger"), compute(R8, "+", -1), compute(R8, "<<", 16),
            move(R2, R7), compute(R2, "&", FROM_PYTHON), jump_if(R2, "==", 0, "came"),
            *begin(0), *total(Total.INJECTED), jump("on"), Label("came"), *total(Total.CAME), Label("on"),
            store(R6, CB, R8, 4), store(R6, MARK, 0, 4), compute(R7, "&", FROM_PYTHON - 1),
            move(R1, R6), map_index(R2, 2), move(R3, R7), call(Helper.TAIL_CALL),
            *dropped(Dropped.UNWIRED), Label("stranger"), leave(DROP)]


def flood(members: Map, ports: int, count: Count, budget: Map, token: int, sets: Map | None = None) -> Program:
    """A clone to every member but the port the packet came from; `token` is that of the wiring.

    `sets` are the function's sets of ports, of which `tc_classid` names one, or 0 for every port.

    `members` holds, by port, {u32 device, u32 wire, u32 counted, u32 length}: a device of ours and wire 0, or the
    recirculation device and the wire on which the clone goes on.  Counted 0: the clone is counted where it leaves; else
    it is the bank of the port's counters, and one more.  Frames up to `length` fit the device.  A clone shares the
    bytes; whoever changes them first copies.  Clones are charged to `budget`: see storm.py.

    The loop is the kernel's (`bpf_loop`), which verifies its body once; one of our own took the verifier a third of a
    second for 64 ports, and it refused 256.
    """
    whole, types, functions = _flood(max(ports, 1), sets is not None)
    return loaded("flood", whole, [*count.maps, members, budget, *([sets] if sets else [])], types, functions,
                  (token,))


@lru_cache(SHAPES)
def _flood(ports: int, sets: bool) -> tuple[bytes, bytes, bytes]:
    """The code, its types, and where its functions begin."""
    types = Types()
    number = types.integer("int", 4, True)
    main = types.prototype(number, [("packet", types.pointer(types.structure("__sk_buff", 0)))])
    each = types.prototype(number, [("index", types.integer("u64", 8)), ("frame", types.pointer(0))])
    body = _clone(ports)
    whole = assemble(
        move(R6, R1), *total(Total.FLOODS), *_says(BLANKS[0]), *value(3),
        jump_if(R0, "==", 0, "end"), store(R10, FRAME + ACCOUNT, R0), store(R10, FRAME + PACKET, R6),
        call(Helper.CLOCK), store(R10, FRAME + NOW, R0),
        load(R8, R6, CB, 4), load(R2, R6, MARK, 4), store(R10, FRAME + MARKED, R2),
        move(R2, R8), compute(R2, ">>", 16), compute(R2, "&", 0xff), compute(R2, "+", 1), compute(R2, "<<", WIRE_BITS),
        store(R10, FRAME + HOP, R2), compute(R8, "&", 0xffff), store(R10, FRAME + FROM, R8),
        *(_chosen() if sets else [store(R10, FRAME + SET, 0)]),
        move(R1, ports), function(R2, "each"), move(R3, R10), compute(R3, "+", FRAME), move(R4, 0),
        call(Helper.LOOP), Label("end"), leave(DROP),
        Label("each"), *body)
    functions = struct.pack("=IIII", 0, types.function("flood", main, False),
                            (len(whole) - len(assemble(*body))) // 8, types.function("each", each, False))
    return whole, types.blob(), functions


# What the loop's body finds in the stack of the flood.
FRAME = -64
PACKET, FROM, MARKED, HOP, NOW, ACCOUNT, SET = range(0, 56, 8)
DOWN = -100                     # ENETDOWN: said by the device, behind its hook


def _chosen() -> list[Line]:
    """The set in the frame: 0 if it is every port; a place that is not there ends the flood."""
    return [
        load(R2, R6, CLASS, 4), store(R6, CLASS, 0, 4), store(R10, FRAME + SET, 0), jump_if(R2, "==", 0, "all"),
        store(R10, -8, R2, 4), map_index(R1, 4), move(R2, R10), compute(R2, "+", -8), call(Helper.MAP_LOOKUP),
        jump_if(R0, "==", 0, "end"), store(R10, FRAME + SET, R0), Label("all")]


def _clone(ports: int) -> list[Line]:
    """The body: R1 is the port's number, R2 the address of the frame."""
    return [
        move(R7, R2), move(R8, R1), load(R6, R7, PACKET), load(R2, R7, FROM), jump_if(R8, "==", R2, "skip"),
        jump_if(R8, ">=", ports, "skip"), load(R1, R7, SET), jump_if(R1, "==", 0, "any"),
        move(R2, R8), compute(R2, ">>", 3), compute(R1, "+", R2), load(R1, R1, 0, 1), move(R2, R8),
        compute(R2, "&", 7), compute(R1, ">>", R2), compute(R1, "&", 1), jump_if(R1, "==", 0, "skip"), Label("any"),
        map_value(R9, 2), compute(R8, "<<", 4), compute(R9, "+", R8),
        load(R2, R9, 0, 4), jump_if(R2, "==", 0, "skip"), *total(Total.COPIES), load(R2, R9, 0, 4),
        load(R3, R9, 4, 4), load(R0, R7, ACCOUNT), load(R1, R7, NOW), load(R4, R0, 0),
        jump_if(R4, ">=", R1, "ahead"), move(R4, R1), Label("ahead"),
        move(R5, R4), compute(R5, "-", R1), load(R1, R0, 16), jump_if(R5, ">", R1, "overdrawn"),
        load(R1, R0, 8), jump_if(R3, "!=", 0, "whole"), compute(R1, ">>", CHEAPER), Label("whole"),
        compute(R4, "+", R1), store(R0, 0, R4), move(R5, 0), Label("overdrawn"), jump_if(R3, "!=", 0, "wired"),
        load(R3, R6, LENGTH, 4), load(R4, R9, 12, 4), jump_if(R3, "<=", R4, "short"),
        *_asked(R2), jump_if(R0, "s<=", 0, "short"), *lost(Dropped.TOO_LONG), jump("skip"),
        Label("short"), load(R2, R9, 0, 4),
        move(R1, R6), move(R3, 0), call(Helper.CLONE_REDIRECT),
        # What has been to the device's hook is counted there, whatever became of it.
        load(R2, R9, 8, 4), jump_if(R2, "!=", 0, "here"), jump_if(R0, "s>=", 0, "skip"),
        jump_if(R0, "==", DOWN, "skip"), jump("refused"),
        Label("here"), jump_if(R0, "!=", 0, "refused"),
        *value(0), jump_if(R0, "==", 0, "skip"), compute(R8, "<<", 2), compute(R0, "+", R8),
        load(R2, R9, 8, 4), compute(R2, "-", 1), compute(R2, "&", 1), compute(R2, "<<", 5), compute(R0, "+", R2),
        *_add(16, 1), load(R2, R6, LENGTH, 4), *_add(24, R2), jump("skip"),
        Label("wired"), jump_if(R5, "!=", 0, "storm"),
        load(R0, R7, HOP), compute(R3, "|", R0), store(R6, MARK, R3, 4),
        move(R1, R6), move(R3, INGRESS_FLAG), call(Helper.CLONE_REDIRECT),
        load(R2, R7, MARKED), store(R6, MARK, R2, 4), jump_if(R0, "!=", 0, "refused"),
        *total(Total.ROUND), jump("skip"),
        Label("refused"), *lost(Dropped.EGRESS), jump("skip"),
        Label("storm"), *lost(Dropped.STORM),
        Label("skip"), leave(0)]


def begin(port: int) -> list[Line]:
    """A fresh context: the port, no hops, no metadata."""
    return [store(R6, CB, port, 4), *(store(R6, CB + 4 * i, 0, 4) for i in range(1, 5))]


def loaded(name: str, code: bytes, maps: list[Map], types: bytes = b"", functions: bytes = b"",
           blanks: Sequence[int] = (), kind: ProgramKind = ProgramKind.SCHED_CLS) -> Program:
    """The program, in the kernel; `map_index` counts the maps.  `blanks` fill those in the code."""
    for blank, number in zip(BLANKS, blanks, strict=False):
        code = code.replace(blank.to_bytes(4, "little"), number.to_bytes(4, "little"))
    attach = AttachType.XDP if kind == ProgramKind.XDP else AttachType.TCX_INGRESS
    spec = ProgramSpec(name[:15], kind, code, "Dual BSD/GPL", types, functions, expected_attach_type=attach)
    return Program.load(spec, maps)


__all__ = [
    "MOST_HOPS", "PORTS", "Count", "Crossing", "Door", "Edge", "Way", "again", "arrive", "begin", "counted", "dropped",
    "enter", "entry", "fits", "flood", "hop", "leaving", "loaded", "lost", "output", "passed", "total", "turning",
    "value",
]
