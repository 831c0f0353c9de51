"""An `@inline` function in a file of its own: for positions, and for what the cache must notice."""
from __future__ import annotations

from iovisor.language import Packet, inline, u16

FACTOR = 3


@inline
def port_of(pkt: Packet) -> int:
    return pkt.port * FACTOR


@inline
def small(value: u16) -> int:
    return value & 0xff
