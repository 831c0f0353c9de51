"""VLAN tags (IEEE 802.1Q, clause 9).

The outer tag of a packet is not in its bytes: it is `pkt.tci` and `pkt.tpid`, and `tci`, `vid_of`, `pcp_of` and
`dei_of` make and read its 16 bits.  `Vlan` is any tag *within* that one, as bytes: the two octets of tag control
information and the type that follows.  The tag protocol identifier before them was the `type` of what came earlier.
"""
from __future__ import annotations

from iovisor.language import Header, inline, u1, u3, u12, u16

PRIORITY_ONLY = 0       # IEEE 802.1Q table 9-2: a tag that gives a priority, and no VLAN
DEFAULT = 1             # the VLAN of a port nobody configured
RESERVED = 0xfff        # never on the wire


class Vlan(Header):
    """An inner tag (IEEE 802.1Q 9.6): priority, drop eligibility, VLAN, and the type of what follows."""

    pcp: u3 = 0
    dei: u1 = 0
    vid: u12
    type: u16


@inline
def tci(vid: u12, pcp: u3 = 0, dei: u1 = 0) -> int:
    """The 16 bits of tag control information (IEEE 802.1Q 9.6)."""
    return pcp << 13 | dei << 12 | vid


@inline
def vid_of(control: u16) -> int:
    """The VLAN of tag control information."""
    return control & 0xfff


@inline
def pcp_of(control: u16) -> int:
    """The priority of tag control information."""
    return control >> 13 & 7


@inline
def dei_of(control: u16) -> int:
    """The drop eligibility of tag control information."""
    return control >> 12 & 1
