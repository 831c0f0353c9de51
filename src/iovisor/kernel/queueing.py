"""Queueing: HTB at a device, so that packets wait for their turn instead of being dropped (tc-htb(8)).

A `Class` is one node of the tree, as data; `htb`, `klass`, `fifo` and `delete` build requests, `listing` asks.  Packets
wait in the byte-limited queue of a leaf.  Which leaf is not a matter of filters here: HTB takes a packet whose priority
is the handle of a class (`HANDLE | number`) straight there, and everything else goes to class 1.

Rates are in bytes a second, in the 64-bit form, and no rate tables go with them: kernels since 3.8 compute.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .netlink import CREATE, EXCLUSIVE, REPLACE, Netlink, Request, attribute, attributes, nested, string, terminated

HANDLE, ROOT = 1 << 16, 0xFFFFFFFF
_NEW_DISCIPLINE, _DELETE_DISCIPLINE, _GET_DISCIPLINE = 36, 37, 38
_NEW_CLASS, _DELETE_CLASS, _GET_CLASS = 40, 41, 42
_MESSAGE = struct.Struct("=BxxxiIII")
_KIND, _OPTIONS, _STATISTICS = 1, 2, 7
_BASIC, _QUEUE = 1, 3
_PARAMETERS, _INIT, _RATE64, _CEILING64 = 1, 2, 6, 7
_GLOBAL = struct.Struct("=IIIII")
_RATE = struct.Struct("=BBHhHI")
_OPTION = struct.Struct("=IIIII")
_ETHERNET = 1                   # a link layer that needs no table of rates
_TICK = 6                       # bits of nanoseconds in a tick
_VERSION, _WORD = 3, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Class:
    """`number` 1 to 65,535, `parent` the number of another, 0 for the root; `rate` and `ceiling` bytes a second.

    `burst` in bytes is of the rate, `surge` of the ceiling; `quantum` is what equals send in turn; the lower `priority`
    (0 to 7) goes first.
    """

    number: int
    parent: int
    rate: int
    ceiling: int
    burst: int
    surge: int
    priority: int = 0
    quantum: int = 1 << 16          # an aggregate (GSO): HTB sends one packet a turn at least, however long


@dataclass(frozen=True, slots=True)
class ClassState:
    """What a class has sent, dropped, and holds now."""

    number: int
    parent: int
    sent_packets: int
    sent_bytes: int
    dropped: int
    waiting_packets: int
    waiting_bytes: int


def htb(index: int) -> Request:
    """Make HTB the discipline of a device; NetlinkError EEXIST if it has one with this handle."""
    body = _MESSAGE.pack(0, index, HANDLE, ROOT, 0) + string(_KIND, "htb") + nested(
        _OPTIONS, attribute(_INIT, _GLOBAL.pack(_VERSION, 10, 1, 0, 0)))
    return Request(_NEW_DISCIPLINE, CREATE | EXCLUSIVE, body, "queueing add", str(index))


def klass(index: int, wanted: Class) -> Request:
    """Make a class, or change the one with this number; its parent cannot change."""
    parent = HANDLE | wanted.parent if wanted.parent else HANDLE
    buffers = [min(burst * 10**9 // rate >> _TICK, _WORD)
               for burst, rate in ((wanted.burst, wanted.rate), (wanted.surge, wanted.ceiling))]
    rates = [_RATE.pack(0, _ETHERNET, 0, -1, 0, min(rate, _WORD)) for rate in (wanted.rate, wanted.ceiling)]
    body = _MESSAGE.pack(0, index, HANDLE | wanted.number, parent, 0) + string(_KIND, "htb") + nested(
        _OPTIONS,
        attribute(_PARAMETERS, b"".join(rates) + _OPTION.pack(*buffers, wanted.quantum, 0, wanted.priority)),
        attribute(_RATE64, struct.pack("=Q", wanted.rate)), attribute(_CEILING64, struct.pack("=Q", wanted.ceiling)))
    return Request(_NEW_CLASS, CREATE | REPLACE, body, "queueing class", f"{index} {wanted.number}")


def fifo(index: int, number: int, room: int) -> Request:
    """Give a leaf a queue of so many bytes, or change how many; what waits stays."""
    handle = number + 1 << 16           # 1: is the root's
    body = _MESSAGE.pack(0, index, handle, HANDLE | number, 0) + string(_KIND, "bfifo") + attribute(
        _OPTIONS, struct.pack("=I", room))
    return Request(_NEW_DISCIPLINE, CREATE | REPLACE, body, "queueing leaf", f"{index} {number}")


def delete_class(index: int, number: int) -> Request:
    """Remove a class without children; what waits in it is dropped."""
    return Request(_DELETE_CLASS, 0, _MESSAGE.pack(0, index, HANDLE | number, 0, 0), "queueing class delete",
                   f"{index} {number}")


def delete(index: int) -> Request:
    """Give a device back the discipline it came with; what waits is dropped."""
    return Request(_DELETE_DISCIPLINE, 0, _MESSAGE.pack(0, index, HANDLE, ROOT, 0), "queueing delete", str(index))


def listing(netlink: Netlink, index: int) -> list[ClassState]:
    """The HTB classes of a device; none if it has no HTB of ours."""
    found = []
    for body in netlink.dump(Request(_GET_CLASS, 0, _MESSAGE.pack(0, index, 0, 0, 0), "queueing list", str(index))):
        _, _, handle, parent, _ = _MESSAGE.unpack_from(body)
        parts = attributes(body, _MESSAGE.size)
        if terminated(parts.get(_KIND, b"")) != "htb" or handle >> 16 != HANDLE >> 16:
            continue
        numbers = attributes(parts.get(_STATISTICS, b""))
        size, packets = struct.unpack_from("=QI", numbers[_BASIC]) if _BASIC in numbers else (0, 0)
        waiting, backlog, dropped = struct.unpack_from("=III", numbers[_QUEUE]) if _QUEUE in numbers else (0, 0, 0)
        over = parent & 0xFFFF if parent != ROOT else 0
        found.append(ClassState(handle & 0xFFFF, over, packets, size, dropped, waiting, backlog))
    return found


__all__ = ["HANDLE", "Class", "ClassState", "delete", "delete_class", "fifo", "htb", "klass", "listing"]
