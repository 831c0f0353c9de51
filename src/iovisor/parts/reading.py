"""From a frame to what state is kept about, in the same words for IPv4 and IPv6.

An address is two words of 64 bits, an IPv4 address as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), so that one table, one
key and one piece of code serve both families.  What would forge such an address on the wire is refused.

A header must lie within the length the IP header gives, so that padding is never taken for ports; what hides from a
filter (RFC 1858, RFC 3128, RFC 5095) is refused with a name.  Records would be the natural result, but live on the
stack; these are tuples, and cost nothing.
"""
from __future__ import annotations

from iovisor.language import Header, Packet, Reasons, inline, require, u4, u8, u16, u28, u64
from iovisor.wire.icmp import Icmp, IcmpType
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4, is_sane, payload_length, skip_options
from iovisor.wire.ipv6 import Extension, Fragment, is_extension
from iovisor.wire.udp import Udp

MAPPED = 0xffff_0000_0000           # the lower word of ::ffff:0:0/96
V4 = 96                             # bits that an IPv4 prefix gains
MOST_EXTENSIONS = 4


class Unreadable(Reasons):
    """Why a packet tells nothing that could be trusted."""

    MALFORMED = 128                 # contradicts itself: version, header length, total length, transport header
    TINY_FRAGMENT = 129             # a first fragment without the whole transport header
    OVERLAPPING_FRAGMENT = 130      # a TCP fragment that would overwrite the flags of the first
    SOURCE_ROUTED = 131             # an IPv6 routing header of type 0 with segments left
    TOO_MANY_HEADERS = 132          # more than 4 extension headers


class IPv6Halves(Header, pseudo=("source_upper", "source_lower", "destination_upper", "destination_lower"),
                 shaping=("next", "length"), offload="ipv6"):
    """The fixed header of IPv6, its addresses in words."""

    version: u4
    traffic: u28
    length: u16
    next: u8
    hops: u8
    source_upper: u64
    source_lower: u64
    destination_upper: u64
    destination_lower: u64


@inline
def internet4(pkt: Packet, room: int) -> tuple[int, int, int, int, int, int, int, int]:
    """The two addresses' lower words, protocol, fragment's offset, more and id, payload bytes, hops.

    The cursor goes from the header to the payload; `room` bytes are there.
    """
    ip = pkt.parse(IPv4)
    require(is_sane(ip) and ip.length <= room, Unreadable.MALFORMED)
    skip_options(pkt, ip)
    return MAPPED | ip.src, MAPPED | ip.dst, ip.proto, ip.offset, ip.mf, ip.id, payload_length(ip), ip.ttl


@inline
def extensions(pkt: Packet, protocol: u8, payload: int) -> tuple[int, int, int, int, int]:
    """As `wire.ipv6` walks them: protocol, fragment's offset, more and id, and what they leave of the payload."""
    offset = 0
    more = 0
    identity = 0
    for _ in range(MOST_EXTENSIONS):
        if protocol == IpProtocol.FRAGMENT:
            fragment = pkt.parse(Fragment)
            protocol = fragment.next
            offset = fragment.offset
            more = fragment.more
            identity = fragment.id
            payload = payload - 8
            if offset != 0:
                break
        elif is_extension(protocol):
            extension = pkt.parse(Extension)
            if protocol == IpProtocol.ROUTING:
                require(pkt.u8(0) != 0 or pkt.u8(1) == 0, Unreadable.SOURCE_ROUTED)
            # RFC 4302 section 2.2: authentication alone counts in words of 4 bytes, less two.
            size = extension.length * 4 + 8 if protocol == IpProtocol.AUTHENTICATION else extension.length * 8 + 8
            protocol = extension.next
            pkt.skip(size - 2)
            payload = payload - size
        else:
            break
    if offset == 0:
        require(not is_extension(protocol), Unreadable.TOO_MANY_HEADERS)
    return protocol, offset, more, identity, payload


@inline
def quoted4(pkt: Packet) -> tuple[int, int, int]:
    """Of the packet an ICMP error quotes: the two addresses' lower words, and protocol.  Zero for a later fragment."""
    ip = pkt.parse(IPv4)
    require(ip.version == 4 and ip.ihl >= 5, Unreadable.MALFORMED)
    skip_options(pkt, ip)
    return MAPPED | ip.src, MAPPED | ip.dst, ip.proto if ip.offset == 0 else 0


@inline
def quoted6(pkt: Packet) -> tuple[int, int, int, int, int]:
    """Of the packet an ICMPv6 error quotes: the addresses' words, and protocol.  Behind extension headers: theirs."""
    ip = pkt.parse(IPv6Halves)
    require(ip.version == 6, Unreadable.MALFORMED)
    protocol = ip.next
    if protocol == IpProtocol.FRAGMENT:
        fragment = pkt.parse(Fragment)
        protocol = fragment.next if fragment.offset == 0 else 0
    return ip.source_upper, ip.source_lower, ip.destination_upper, ip.destination_lower, protocol


@inline
def least(protocol: int) -> int:
    """The bytes of a transport header that must be there."""
    match protocol:
        case IpProtocol.TCP:
            return 20
        case IpProtocol.SCTP:
            return 12
        case IpProtocol.UDP | IpProtocol.ICMP | IpProtocol.ICMP6:
            return 8
    return 0


@inline
def is_whole(protocol: int, offset: int, more: int, payload: int) -> None:
    """Refuse what has not the transport header it should have, hides it among fragments, or lies behind its end."""
    require(offset != 1 or protocol != IpProtocol.TCP, Unreadable.OVERLAPPING_FRAGMENT)
    if offset == 0:
        require(payload >= least(protocol), Unreadable.TINY_FRAGMENT if more else Unreadable.MALFORMED)
    else:
        require(payload >= 0, Unreadable.MALFORMED)


@inline
def has_ports(protocol: int) -> bool:
    """Whether the first four bytes are two ports."""
    return protocol in (IpProtocol.TCP, IpProtocol.UDP, IpProtocol.SCTP)


@inline
def is_message(protocol: int) -> bool:
    """ICMP, of either family."""
    return protocol in (IpProtocol.ICMP, IpProtocol.ICMP6)


@inline
def is_error(protocol: int, type: int) -> bool:
    """A message about another packet that hosts act upon (RFC 792, RFC 4443): no redirect, no source quench."""
    if protocol == IpProtocol.ICMP:
        return type in (IcmpType.UNREACHABLE, IcmpType.TIME_EXCEEDED, IcmpType.PARAMETER_PROBLEM)
    return Icmp6Type.UNREACHABLE <= type <= Icmp6Type.PARAMETER_PROBLEM


@inline
def is_request(type: int, protocol: int) -> bool:
    """A message that awaits its like."""
    if protocol == IpProtocol.ICMP:
        return type in (IcmpType.ECHO, IcmpType.TIMESTAMP)
    return type == Icmp6Type.ECHO


@inline
def is_reply(type: int, protocol: int) -> bool:
    """The answer to one."""
    if protocol == IpProtocol.ICMP:
        return type in (IcmpType.ECHO_REPLY, IcmpType.TIMESTAMP_REPLY)
    return type == Icmp6Type.ECHO_REPLY


@inline
def request_of(type: int, protocol: int) -> int:
    """The type of the request a query message belongs to; zero for what is no query."""
    if protocol == IpProtocol.ICMP:
        match type:
            case IcmpType.ECHO | IcmpType.ECHO_REPLY:
                return IcmpType.ECHO
            case IcmpType.TIMESTAMP | IcmpType.TIMESTAMP_REPLY:
                return IcmpType.TIMESTAMP
        return 0
    return Icmp6Type.ECHO if type in (Icmp6Type.ECHO, Icmp6Type.ECHO_REPLY) else 0


__all__ = [
    "MAPPED", "V4", "IPv6Halves", "Icmp", "Udp", "Unreadable", "extensions", "has_ports",
    "internet4", "is_error", "is_message", "is_reply", "is_request", "is_whole", "least", "quoted4", "quoted6",
    "request_of",
]
