"""Ethernet frames (IEEE 802.3, clause 3) and the numbers that say what they carry.

The header here is the 14 bytes every frame begins with *once its outer VLAN tag stands beside it* (see
`language.packet`): `type` is what follows the tag, and a function that ignores VLANs need not know of them.

Addresses are 48-bit integers in the order of the wire, so the group bit, the first bit sent of the first byte, is
bit 40.  A class for addresses was rejected: the data path only compares them, and people read them in `repr`.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Header, inline, mac, u16

BROADCAST = 0xffff_ffff_ffff
BRIDGE_GROUP = 0x0180_c200_0000         # IEEE 802.1Q 8.6.3: the first of sixteen that no bridge forwards
SMALLEST_TYPE = 0x600                   # IEEE 802.3 3.2.6: below this the field is a length


class EtherType(IntEnum):
    """What follows the header (the IEEE 802 numbers registered with IANA)."""

    IPV4 = 0x0800
    ARP = 0x0806
    TRANSPARENT_BRIDGING = 0x6558       # an Ethernet frame, in GRE and GENEVE
    VLAN = 0x8100
    IPV6 = 0x86dd
    SLOW = 0x8809                       # LACP, marker, OAM
    MPLS = 0x8847
    PPPOE_DISCOVERY = 0x8863
    PPPOE_SESSION = 0x8864
    EAPOL = 0x888e
    SERVICE_VLAN = 0x88a8
    LLDP = 0x88cc
    MACSEC = 0x88e5
    PTP = 0x88f7


class Ethernet(Header, offload="ethernet"):
    """IEEE 802.3 3.1.1, without preamble and frame check sequence."""

    dst: mac
    src: mac
    type: u16


@inline
def is_group(address: mac) -> bool:
    """Whether an address names many stations: multicast or broadcast (IEEE 802.3 3.2.3)."""
    return address >> 40 & 1 == 1


@inline
def is_local(address: mac) -> bool:
    """Whether an address was given locally rather than by a manufacturer (IEEE 802.3 3.2.3)."""
    return address >> 41 & 1 == 1


@inline
def is_bridge_group(address: mac) -> bool:
    """Whether this is one of the sixteen addresses that end at the next bridge (IEEE 802.1Q 8.6.3)."""
    return address >> 4 == BRIDGE_GROUP >> 4


@inline
def has_type(eth: Ethernet) -> bool:
    """Whether `type` is a type, not the length of an 802.2 frame (IEEE 802.3 3.2.6)."""
    return eth.type >= SMALLEST_TYPE
