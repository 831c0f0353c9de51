"""What a packet says of its flow, for functions that meter, mark, copy and count, and never refuse.

`parts/reading` is for filters: what contradicts itself is dropped.  A meter on a link has no such right, so here what
cannot be read is zero, and every header is *peeked* at.  Addresses are two words of 64 bits, IPv4 as ::ffff:a.b.c.d, as
they are there.  Ports are those of TCP, UDP and SCTP; of ICMP type and code; of a later fragment zero, so that all of a
datagram's later fragments are one flow, beside that of its first.

*Lengths.*  At TC a packet may be an aggregate that a device will cut, and each piece will carry a header of its own:
`wire_length` is what all of them take together, which is what a rate is about.  The tag beside the bytes counts too.
"""
from __future__ import annotations

from iovisor.language import Packet, Record, inline, u8, u16, u32, u64
from iovisor.wire.icmp import Icmp
from iovisor.wire.ipv4 import IpProtocol, IPv4
from iovisor.wire.ipv6 import Extension, Fragment, is_extension
from iovisor.wire.tcp import Tcp
from iovisor.wire.udp import Udp

from .reading import MAPPED, MOST_EXTENSIONS, IPv6Halves

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


__all__ = ["OPAQUE", "FlowKey", "behind4", "behind6", "mapped", "selectors", "wire_length"]
