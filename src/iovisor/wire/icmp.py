"""The Internet Control Message Protocol (RFC 792).

Three views of the same eight bytes, because `rest` means something else in every message: `Icmp` for all, `IcmpEcho`
for queries, `IcmpTooBig` for "fragmentation needed" with its MTU (RFC 1191 section 4).  Behind an error follows the
header of the packet it is about, and that packet's first eight bytes at least.

The checksum covers the message to its end, and no pseudo-header.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Checksum, Header, inline, u8, u16, u32


class IcmpType(IntEnum):
    """RFC 792, and IANA's registry since."""

    ECHO_REPLY = 0
    UNREACHABLE = 3
    SOURCE_QUENCH = 4
    REDIRECT = 5
    ECHO = 8
    ROUTER_ADVERTISEMENT = 9
    ROUTER_SOLICITATION = 10
    TIME_EXCEEDED = 11
    PARAMETER_PROBLEM = 12
    TIMESTAMP = 13
    TIMESTAMP_REPLY = 14


class Unreachable(IntEnum):
    """The codes of "destination unreachable" (RFC 792; RFC 1812 section 5.2.7.1)."""

    NET = 0
    HOST = 1
    PROTOCOL = 2
    PORT = 3
    FRAGMENTATION_NEEDED = 4
    SOURCE_ROUTE_FAILED = 5
    NET_PROHIBITED = 9
    HOST_PROHIBITED = 10
    PROHIBITED = 13


class TimeExceeded(IntEnum):
    """The codes of "time exceeded" (RFC 792)."""

    TRANSIT = 0
    REASSEMBLY = 1


class Icmp(Header, checksum=Checksum("checksum", "transport")):
    """What all messages have in common (RFC 792)."""

    type: u8
    code: u8 = 0
    checksum: u16 = 0
    rest: u32 = 0


class IcmpEcho(Header, checksum=Checksum("checksum", "transport")):
    """Echo and timestamp messages (RFC 792, "Echo or Echo Reply Message"): `id` is what a NAT maps."""

    type: u8
    code: u8 = 0
    checksum: u16 = 0
    id: u16
    sequence: u16


class IcmpTooBig(Header, checksum=Checksum("checksum", "transport")):
    """Fragmentation needed (RFC 1191 section 4): the MTU of the next hop."""

    type: u8 = IcmpType.UNREACHABLE
    code: u8 = Unreachable.FRAGMENTATION_NEEDED
    checksum: u16 = 0
    unused: u16 = 0
    mtu: u16


@inline
def is_error(type: u8) -> bool:
    """Whether a message is about another packet: never answer it with an error (RFC 1812 section 4.3.2.7)."""
    return type in (IcmpType.UNREACHABLE, IcmpType.SOURCE_QUENCH, IcmpType.REDIRECT, IcmpType.TIME_EXCEEDED,
                    IcmpType.PARAMETER_PROBLEM)


@inline
def is_query(type: u8) -> bool:
    """Whether a message has an identifier and awaits its like (RFC 5508 section 3): echo and timestamp."""
    return type in (IcmpType.ECHO, IcmpType.ECHO_REPLY, IcmpType.TIMESTAMP, IcmpType.TIMESTAMP_REPLY)


@inline
def fill(icmp: Icmp, type: u8, code: u8 = 0, rest: u32 = 0) -> None:
    """Give a pushed header its fields; `checksum.icmp` comes after."""
    icmp.type = type
    icmp.code = code
    icmp.rest = rest
