"""Shares of a device: several networks on one device of the host, and the host on it as before.

Every share is a program of its own in the device's tcx chain.  It looks at the tag and the destination of a frame:

    a frame of ours         to the port; nobody behind in the chain sees it
    a frame to a group      a copy goes around the recirculation device to the port; the frame itself goes on
    anything else           goes on as it came: to the next share, in the end to the host

So a share costs the others' frames a few comparisons, and no program belongs to all of them, whose keeper could die.
What leaves is checked as well: a frame of a MAC or VLAN that is not the share's is dropped as FOREIGN.  It
is sent to the wire, never handed to a neighbour in the chain; as with Linux' macvlan, what two networks on one device
say to each other goes by the switch at its other end.

*Who holds what* is asked of the kernel, not of a file that may be stale: each program of the chain refers to a map with
its claim in words.  A claim is checked and attached at one revision of the chain, so two processes cannot both succeed.

Rejected: one dispatcher a device with a table (shared state between networks, and somebody has to own it); macvlan
(a hop more, and no VLANs here).
"""
from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..kernel import Direction, KernelError, Map, MapKind, MapSpec, NetworkNamespace, Program, attached
from ..kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
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
    move,
    store,
    tail_call,
)
from ..language.addresses import mac_address, mac_text
from ..language.verdicts import Dropped
from . import edges
from .attachments import Share
from .counters import Total
from .edges import Count, Door, Edge

CLAIM = 8192                    # bytes: 64 MACs and 64 VLANs in JSON, and names
_TAGGED, _TAG = 20, 24          # vlan_present and vlan_tci of the context
_DATA, _END = 76, 80
_NEXT = -1
_TAGS = (0x8100, 0x88a8)


@dataclass(frozen=True)
class Claim:
    """Who has a device: a share of it, or all."""

    network: str
    port: str
    group: int
    share: Share | None = None

    def map(self) -> Map:
        """A map that says so; programs refer to it."""
        text = json.dumps({"network": self.network, "port": self.port, "group": self.group,
                           "share": self.share and [self.share.device, self.share.macs, self.share.vlans]})
        made = Map.create(MapSpec("claim", MapKind.ARRAY, 4, CLAIM, 1))
        try:
            made.update(bytes(4), text.encode().ljust(CLAIM, b"\0"))
        except BaseException:
            made.close()
            raise
        return made

    @property
    def holder(self) -> str:
        return f"network {self.network} at {self.port}" if self.network else "another network"


def claims(index: int, namespace: NetworkNamespace | None) -> tuple[list[Claim], int]:
    """Who has a device, and the revision of its chain."""
    chain = attached(index, Direction.INGRESS, namespace)
    found = []
    for number in chain.program_ids:
        with contextlib.suppress(KernelError), Program.from_id(number) as program:
            claim = _claim(program)
            if claim is not None:
                found.append(claim)
    return found, chain.revision


def _claim(program: Program) -> Claim | None:
    for number in program.map_ids():
        with Map.from_id(number) as opened:
            if opened.spec.name == "claim" and opened.spec.value_size == CLAIM:
                said: Any = json.loads((opened.lookup(bytes(4)) or b"null").rstrip(b"\0"))
                share = said["share"] and Share(said["share"][0], said["share"][1], said["share"][2])
                return Claim(said["network"], said["port"], said["group"], share)
    name = program.info().name
    return Claim("", "", 0) if name.startswith("entry") and name[5:].isdigit() else None


def check(wanted: Claim, index: int, namespace: NetworkNamespace | None,
          leaving: Collection[str] | None = ()) -> int:
    """The revision at which nobody has what is wanted, but ports of the same network that are `leaving` (None: any);
    ValueError naming who has."""
    others, revision = claims(index, namespace)
    for other in others:
        if other.group == wanted.group and (leaving is None or other.port in (wanted.port, *leaving)):
            continue
        if wanted.share is None and other.share is None:
            raise ValueError(f"{wanted.port}: device {index} is attached to {other.holder} already")
        if wanted.share is None:
            raise ValueError(f"{wanted.port}: {other.holder} has a share of device {index}: attach a share of it, too")
        if other.share is None:
            raise ValueError(f"{wanted.port}: {wanted.share.device} is attached whole to {other.holder}")
        if overlap := wanted.share.overlap(other.share):
            raise ValueError(f"{wanted.port}: {overlap} on {wanted.share.device} belong to {other.holder}")
    return revision


# -- programs ---------------------------------------------------------------------------------------------------------


def entry(port: int, door: Door, count: Count, share: Share, claim: Map, device: int, wire: int) -> Program:
    """Frames of the share go into the function; copies of those to groups go around, on `wire`, by `device`."""
    return edges.loaded(f"share{port}", assemble(
        move(R6, R1), map_index(R0, 3), *_tag_of_frame(), *_in_vlans(share, "theirs"),
        load(R2, R6, _DATA, 4), load(R3, R6, _END, 4), move(R4, R2), compute(R4, "+", 14),
        jump_if(R4, ">", R3, "theirs"),
        load(R4, R2, 0, 1), jump_if(R4, "&", 1, "group"),
        load(R4, R2, 0, 4), load(R5, R2, 4, 2), *_among(share, R4, R5, "theirs"),
        *edges.begin(port), *_untag(share), *edges.counted(count.number), move(R1, R6), tail_call(2, door.slot),
        *edges.dropped(Dropped.UNWIRED),
        Label("group"),
        *edges.counted(count.number, "counted copy"),
        load(R9, R6, edges.MARK, 4), move(R2, 1 << edges.WIRE_BITS | wire), store(R6, edges.MARK, R2, 4),
        move(R1, R6), move(R2, device), move(R3, edges.INGRESS_FLAG), call(Helper.CLONE_REDIRECT),
        store(R6, edges.MARK, R9, 4), jump_if(R0, "==", 0, "copied"), *edges.lost(Dropped.EGRESS), jump("theirs"),
        Label("copied"), *edges.total(Total.ROUND),
        Label("theirs"), leave(_NEXT)), [*count.maps, door.array, claim])


def arrive(port: int, door: Door, count: Count, share: Share) -> Program:
    """A copy has come around and goes into the function."""
    return edges.loaded(f"arrive{port}", assemble(
        move(R6, R1), *_untag(share), *edges.begin(port), move(R1, R6), tail_call(2, door.slot),
        *edges.dropped(Dropped.UNWIRED)), [*count.maps, door.array])


def output(edge: Edge, count: Count, share: Share) -> Program:
    """Out of the device, if the frame is of the share."""
    tag: list[Line] = []
    if share.access:
        (vlan,) = share.vlans
        tag = [move(R1, R6), move(R2, 0x0081), move(R3, vlan), call(Helper.VLAN_PUSH),
               jump_if(R0, "!=", 0, "foreign")]
    # The 16 bytes lie so that the source is aligned: it is read in words.
    return edges.loaded(f"out{edge.index}", assemble(
        move(R6, R1), move(R2, 0), move(R3, R10), compute(R3, "+", -22), move(R4, 16), call(Helper.PACKET_LOAD),
        jump_if(R0, "!=", 0, "foreign"),
        *_tag_of_frame(),
        load(R2, R10, -10, 2),
        *(jump_if(R2, "==", int.from_bytes(kind.to_bytes(2, "big"), "little"), "bytes") for kind in _TAGS),
        jump("known"),
        Label("bytes"),                                     # a tag in the bytes is the outer one if there is no other
        jump_if(R9, "!=", 0, "known"), move(R9, 1),
        load(R8, R10, -8, 1), compute(R8, "<<", 8), load(R2, R10, -7, 1), compute(R8, "|", R2),
        compute(R8, "&", 0xfff),
        Label("known"),
        *([jump_if(R9, "!=", 0, "foreign")] if share.access else _in_vlans(share, "foreign")),
        load(R4, R10, -16, 4), load(R5, R10, -12, 2), *_among(share, R4, R5, "foreign"),
        *tag, *edges.fits(edge), *edges.counted(count.number), move(R1, edge.index), move(R2, 0), call(Helper.REDIRECT),
        leave(), Label("foreign"), *edges.dropped(Dropped.FOREIGN)), count.maps)


def leaves(frame: bytes, share: Share) -> bytes | None:
    """The reference of `output`: a frame as it leaves the device, None if it is not of the share."""
    tagged = int.from_bytes(frame[12:14], "big") in _TAGS
    vlan = int.from_bytes(frame[14:16], "big") & 0xfff if tagged else 0
    if share.macs and mac_text(int.from_bytes(frame[6:12], "big")) not in tuple(share.macs):
        return None
    if share.access:
        (only,) = share.vlans
        return None if tagged else frame[:12] + b"\x81\0" + only.to_bytes(2, "big") + frame[12:]
    return frame if (vlan in tuple(share.vlans) if share.vlans else vlan == 0) else None


def _tag_of_frame() -> list[Line]:
    """R9: whether there is a tag beside the bytes; R8: its VLAN, 0 if none."""
    return [move(R8, 0), load(R9, R6, _TAGGED, 4), jump_if(R9, "==", 0, "untagged"),
            load(R8, R6, _TAG, 4), compute(R8, "&", 0xfff), Label("untagged")]


def _in_vlans(share: Share, other: str) -> list[Line]:
    """Go to `other` unless R8 is a VLAN of the share."""
    if not share.vlans:
        return [jump_if(R8, "!=", 0, other)]
    return [*(jump_if(R8, "==", vlan, "vlan") for vlan in share.vlans), jump(other), Label("vlan")]


def _among(share: Share, first: Register, last: Register, other: str) -> list[Line]:
    """Go to `other` unless the 4 and 2 bytes in two registers are a MAC of the share."""
    lines: list[Line] = []
    for mac in share.macs:
        packed = mac_address(mac).to_bytes(6, "big")
        lines += [jump_if(first, "!=", int.from_bytes(packed[:4], "little"), f"not {mac}", bits=32),
                  jump_if(last, "==", int.from_bytes(packed[4:], "little"), "mac"), Label(f"not {mac}")]
    return [*lines, jump(other), Label("mac")] if lines else []


def _untag(share: Share) -> list[Line]:
    return [move(R1, R6), call(Helper.VLAN_POP)] if share.access else []


__all__ = ["Claim", "arrive", "check", "claims", "entry", "leaves", "output"]
