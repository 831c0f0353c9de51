"""Edges: where a function's port meets a device.

Five programs of a dozen instructions, assembled without LLVM:

    entry     tcx ingress of the device     cb[0] = port, metadata = 0, on to the function
    output    slot of @next                 out of the device
    flood     slot of @next                 a clone out of every other device
    egress    tcx egress of the device      cb[0] = port, on to the function's egress; for clones only
    passed    slot of the hook's @next      let the packet go

Packets that are forwarded leave by `bpf_redirect_peer` where the device is a veth whose other end is the workload: that
skips a device hop, a third of the cost.  It also skips the device's egress hook, so a forwarded packet has been through
the function's egress *before*, in line; a clone goes through it at the hook.  A device that is no such veth would run it
twice, so there the in-line stage is left out.

Every program ends in a drop if the slot it wants is empty: an edge without a function passes nothing.
"""
from __future__ import annotations

from dataclasses import dataclass

from ..kernel import AttachType, Map, Program, ProgramKind, ProgramSpec
from ..kernel.assembler import Helper, Label, Register, assemble, call, compute, jump, jump_if, leave, load, map_index
from ..kernel.assembler import map_value, move, store, tail_call

R0, R1, R2, R3, R6, R7, R8, R9 = (Register(n) for n in (0, 1, 2, 3, 6, 7, 8, 9))
CB, DROP, PASS = 48, 2, 0
PORTS = 256


@dataclass(frozen=True)
class Edge:
    """A device, by its interface index in the switching namespace.

    `peer`: it is a veth whose other end, in another namespace, is the workload.
    """

    index: int
    peer: bool = True


def _load(name: str, instructions: bytes, maps: list[Map], attach: AttachType = AttachType.TCX_INGRESS) -> Program:
    spec = ProgramSpec(name, ProgramKind.SCHED_CLS, instructions, "Dual BSD/GPL", expected_attach_type=attach)
    return Program.load(spec, maps)


def _context(port: int) -> list[object]:
    """Tell the function where the packet is."""
    words = [store(R6, CB + 4 * i, 0, 4) for i in range(1, 5)]
    return [move(R6, R1), store(R6, CB, port, 4), *words]


def entry(port: int, root: Map, slot: int = 0) -> Program:
    """For the tcx ingress hook, and for the egress hook with another root: both begin a walk."""
    return _load(f"edge{port}", assemble(*_context(port), move(R1, R6), tail_call(0, slot), leave(DROP)), [root])  # type: ignore[arg-type]


def output(edge: Edge) -> Program:
    """Out of a device."""
    helper = Helper.REDIRECT_PEER if edge.peer else Helper.REDIRECT
    return _load(f"out{edge.index}"[:15], assemble(move(R1, edge.index), move(R2, 0), call(helper), leave()), [])


def passed() -> Program:
    """Let the packet go its way."""
    return _load("passed", assemble(leave(PASS)), [])


def flood(members: Map, count: int) -> Program:
    """A clone to every device of `members` (u32 by port, 0 for none) but the one the packet came from.

    The clone is a share of the same bytes; whoever changes one first copies it.
    """
    return _load("flood", assemble(
        move(R6, R1),
        load(R8, R6, CB, 4), compute(R8, "&", 0xffff),
        map_value(R9, 0),
        move(R7, 0),
        Label("next"),
        jump_if(R7, "==", R8, "skip"),
        load(R2, R9, 0, 4),
        jump_if(R2, "==", 0, "skip"),
        move(R1, R6), move(R3, 0), call(Helper.CLONE_REDIRECT),
        Label("skip"),
        compute(R9, "+", 4),
        compute(R7, "+", 1),
        jump_if(R7, "<", count, "next"),
        leave(DROP)), [members])


__all__ = ["Edge", "entry", "flood", "jump", "map_index", "output", "passed"]
