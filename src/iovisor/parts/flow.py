"""What a packet says of its flow, for functions that meter, mark, copy and count, and never refuse.

`parts/reading` is for filters: what contradicts itself is dropped.  A meter on a link has no such right, so here what
cannot be read is zero, and every header is *peeked* at.  Addresses are two words of 64 bits, IPv4 as ::ffff:a.b.c.d, as
they are there.  Ports are those of TCP, UDP and SCTP; of ICMP type and code; of a later fragment zero, so that all of a
datagram's later fragments are one flow, beside that of its first.

*Lengths.*  At TC a packet may be an aggregate that a device will cut, and each piece will carry a header of its own:
`wire_length` is what all of them take together, which is what a rate is about.  The tag beside the bytes counts too.

`internet` finds the header, `told` is what it says; they are apart so that who wants to may refuse a header in between.
"""
from __future__ import annotations

from iovisor.language import Packet, Record, inline, u8, u16, u32, u64
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp import Icmp
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import Extension, Fragment, is_extension
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp
from iovisor.wire.vlan import Vlan

from .reading import MAPPED, MOST_EXTENSIONS, IPv6Halves

TAGS = (EtherType.VLAN, EtherType.SERVICE_VLAN)
OPAQUE = 0xff                       # IANA's reserved protocol: what hides behind too many headers


class FlowKey(Record):
    """Who talks to whom: the key of a table of flows, one direction of each."""

    source_upper: u64 = 0
    source_lower: u64 = 0
    destination_upper: u64 = 0
    destination_lower: u64 = 0
    source_port: u16 = 0
    destination_port: u16 = 0
    protocol: u8 = 0
    spare: u8 = 0
    vlan: u16 = 0


@inline
def internet(pkt: Packet) -> tuple[IPv4 | None, IPv6Halves | None, int]:
    """The IP header behind Ethernet and at most one tag among the bytes, if there is one, and the bytes before it.

    The cursor goes from the frame's first byte to the IP header, and stays before it.
    """
    ip4, ip6 = None, None
    kind, link = 0, 0
    eth = pkt.peek(Ethernet)
    if eth is not None:
        kind, link = eth.type, 14
        pkt.skip(14)
        if kind in TAGS:
            tag = pkt.peek(Vlan)
            if tag is not None:
                kind, link = tag.type, 18
                pkt.skip(4)
    if kind == EtherType.IPV4:
        ip4 = pkt.peek(IPv4)
    elif kind == EtherType.IPV6:
        ip6 = pkt.peek(IPv6Halves)
    return ip4, ip6, link


@inline
def told(pkt: Packet, ip4: IPv4 | None,
         ip6: IPv6Halves | None) -> tuple[int, int, int, int, int, int, int, int, int, int]:
    """The addresses' words, protocol, selectors, fragment's offset, traffic class, bytes of IP and transport header.

    All are zero without an IP header.  The cursor goes from the IP header to behind it.
    """
    source_upper, source_lower, destination_upper, destination_lower = 0, 0, 0, 0
    protocol, first, second, offset, traffic, size, transport = 0, 0, 0, 0, 0, 0, 0
    if ip4 is not None:
        source_lower, destination_lower, traffic = mapped(ip4.src), mapped(ip4.dst), ip4.dscp << 2 | ip4.ecn
        protocol, offset, size = behind4(pkt, ip4)
        first, second, transport = selectors(pkt, protocol, offset)
    elif ip6 is not None:
        source_upper, source_lower, traffic = ip6.source_upper, ip6.source_lower, ip6.traffic >> 20
        destination_upper, destination_lower = ip6.destination_upper, ip6.destination_lower
        protocol, offset, size = behind6(pkt, ip6)
        first, second, transport = selectors(pkt, protocol, offset)
    return (source_upper, source_lower, destination_upper, destination_lower, protocol, first, second, offset, traffic,
            size + transport)


@inline
def behind4(pkt: Packet, ip: IPv4) -> tuple[int, int, int]:
    """Protocol, fragment's offset, and the bytes of the IP header; the cursor goes from the IP header to behind it."""
    size = max(ip.ihl * 4, 20)
    pkt.skip(size)
    return ip.proto, ip.offset, size


@inline
def behind6(pkt: Packet, ip: IPv6Halves) -> tuple[int, int, int]:
    """The same with all extension headers, at most 4; behind more, the protocol is `OPAQUE`."""
    pkt.skip(40)
    protocol = ip.next
    offset = 0
    size = 40
    for _ in range(MOST_EXTENSIONS):
        if offset != 0 or not is_extension(protocol):
            break
        extension = pkt.peek(Extension)
        if extension is None:
            protocol = OPAQUE
            break
        length = extension.length * 8 + 8
        if protocol == IpProtocol.AUTHENTICATION:
            length = extension.length * 4 + 8
        if protocol == IpProtocol.FRAGMENT:
            length = 8
            fragment = pkt.peek(Fragment)
            if fragment is not None:
                offset = fragment.offset
        protocol = extension.next
        pkt.skip(length)
        size = size + length
    if offset == 0 and is_extension(protocol):
        protocol = OPAQUE
    return protocol, offset, size


@inline
def selectors(pkt: Packet, protocol: u8, offset: u16) -> tuple[int, int, int]:
    """Two ports, or type and code, and the bytes of the transport header; the cursor stays before it."""
    if offset != 0:
        return 0, 0, 0
    match protocol:
        case IpProtocol.TCP:
            tcp = pkt.peek(Tcp)
            if tcp is not None:
                return tcp.src, tcp.dst, tcp.offset * 4
        case IpProtocol.UDP | IpProtocol.SCTP:      # SCTP begins with the same two ports
            udp = pkt.peek(Udp)
            if udp is not None:
                return udp.src, udp.dst, 8
        case IpProtocol.ICMP | IpProtocol.ICMP6:
            icmp = pkt.peek(Icmp)
            if icmp is not None:
                return icmp.type, icmp.code, 8
    return 0, 0, 0


@inline
def mapped(address: u32) -> int:
    """The lower word of an IPv4 address; the upper is zero."""
    return MAPPED | address


@inline
def wire_length(pkt: Packet, headers: u16, extra: u8) -> int:
    """The bytes of all frames this one will be on a wire; each begins with as many bytes of headers as this.

    `extra` is what a wire adds to each: 24 of Ethernet with checksum, preamble and gap.
    """
    add = extra + (4 if pkt.tagged else 0)
    total = len(pkt) + add
    segment = pkt.segment
    if segment != 0:
        payload = max(len(pkt) - headers, 1)
        total = total + ((payload + segment - 1) // segment - 1) * (headers + add)
    return total & 0xff_ffff


__all__ = ["OPAQUE", "FlowKey", "behind4", "behind6", "internet", "mapped", "selectors", "told", "wire_length"]
