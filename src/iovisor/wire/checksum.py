"""The Internet checksum (RFC 1071), in the language.

A checksum is made in three steps, and each is a function here: *sum* what it covers (`of_…` for headers, `of_bytes`
for a payload, `pseudo_…` for the addresses), *fold* the carries back into 16 bits, *complement*.  Sums are plain
integers; any number of them add up as long as the total stays below 2**64, and order does not matter.

`Packet.rewrite` keeps the checksums of parsed packets right, on every target, and is what a data path uses on what
it forwards.  This module is for what a data path *makes*: pushed headers (`ipv4_header`, `icmp`, `icmp6`, `udp_ipv4`,
…), replies, and for verification.  Offloaded packets may carry unfinished checksums; verify only what came from a wire.

An `of_…` sum includes the header's own checksum field.  So with the field zero its complement is the checksum, and
over a valid header the fold is 0xffff: `is_right`.

A payload is at most `LONGEST` bytes, and a longer one rejects the packet rather than get a wrong sum.
"""
from __future__ import annotations

from iovisor.language import Packet, inline, ipv4, ipv6, require, u8, u11, u16, u32, u64

from .icmp import Icmp
from .icmp6 import Icmp6
from .ipv4 import IpProtocol, IPv4
from .ipv6 import IPv6
from .neighbor import AddressOption, NeighborAdvertisement
from .tcp import Tcp
from .udp import Udp

LONGEST = 2048                  # bytes of payload that a data path will sum: an Ethernet frame's, with room to spare

# -- arithmetic: RFC 1071 ------------------------------------------------------------------------------------------


@inline
def fold(total: u64) -> int:
    """The 16 bits of a sum, its carries added back (RFC 1071 section 1); zero only for a sum of nothing."""
    total = (total & 0xffff_ffff) + (total >> 32)
    total = (total & 0xffff) + (total >> 16)
    total = (total & 0xffff) + (total >> 16)
    return (total & 0xffff) + (total >> 16)


@inline
def add(left: u16, right: u16) -> int:
    """Ones' complement addition of 16 bits (RFC 1071 section 1)."""
    return (left + right & 0xffff) + (left + right >> 16)


@inline
def finish(total: u64) -> int:
    """The checksum of a sum: its complement (RFC 1071 section 1)."""
    return ~fold(total) & 0xffff


@inline
def finish_udp(total: u64) -> int:
    """The same for UDP, where zero means none and is therefore sent as 0xffff (RFC 768)."""
    return finish(total) or 0xffff


@inline
def is_right(total: u64) -> bool:
    """Whether what was summed, checksum included, is as it was sent (RFC 1071 section 1)."""
    return fold(total) == 0xffff


@inline
def adjusted(checksum: u16, old: u16, new: u16) -> int:
    """The checksum after one of the words under it changed from `old` to `new` (RFC 1624 section 3, equation 3)."""
    return finish((~checksum & 0xffff) + (~old & 0xffff) + new)


@inline
def adjusted32(checksum: u16, old: u32, new: u32) -> int:
    """The same for 32 bits that begin at an even byte."""
    return finish((~checksum & 0xffff) + (~old & 0xffff_ffff) + new)

# -- sums ----------------------------------------------------------------------------------------------------------


@inline
def of_bytes(pkt: Packet, length: u16, offset: u11 = 0) -> int:
    """The sum of `length` bytes that begin `offset` bytes behind the cursor; an odd last byte counts as if zero
    followed (RFC 1071 section 1).  More than `LONGEST` bytes, or more than there are, reject the packet."""
    require(length <= LONGEST)
    return pkt.sum(min(length, LONGEST), offset)


@inline
def of_address6(address: ipv6) -> int:
    """The sum of 128 bits."""
    return ((address >> 96 & 0xffff_ffff) + (address >> 64 & 0xffff_ffff)
            + (address >> 32 & 0xffff_ffff) + (address & 0xffff_ffff))


@inline
def pseudo_ipv4(src: ipv4, dst: ipv4, proto: u8, length: u16) -> int:
    """The pseudo-header of `length` bytes of transport over IPv4 (RFC 768; RFC 9293 section 3.1)."""
    return src + dst + proto + length


@inline
def pseudo_ipv6(src: ipv6, dst: ipv6, proto: u8, length: u32) -> int:
    """The pseudo-header of `length` bytes of transport over IPv6 (RFC 8200 section 8.1)."""
    return of_address6(src) + of_address6(dst) + proto + length


@inline
def of_ipv4(ip: IPv4) -> int:
    """The sum of the fixed header (RFC 791 section 3.1)."""
    return ((ip.version << 12 | ip.ihl << 8 | ip.dscp << 2 | ip.ecn) + ip.length + ip.id
            + (ip.reserved << 15 | ip.df << 14 | ip.mf << 13 | ip.offset) + (ip.ttl << 8 | ip.proto)
            + ip.checksum + ip.src + ip.dst)


@inline
def of_icmp(icmp: Icmp) -> int:
    """The sum of the header (RFC 792)."""
    return (icmp.type << 8 | icmp.code) + icmp.checksum + icmp.rest


@inline
def of_icmp6(icmp: Icmp6) -> int:
    """The sum of the header (RFC 4443 section 2.1)."""
    return (icmp.type << 8 | icmp.code) + icmp.checksum + icmp.rest


@inline
def of_advertisement(message: NeighborAdvertisement) -> int:
    """The sum of the message without its options (RFC 4861 section 4.4)."""
    flags = message.router << 15 | message.solicited << 14 | message.override << 13 | message.spare << 8
    return ((message.type << 8 | message.code) + message.checksum + (flags << 16 | message.reserved)
            + of_address6(message.target))


@inline
def of_address_option(option: AddressOption) -> int:
    """The sum of the option (RFC 4861 section 4.6.1)."""
    return (option.type << 8 | option.length) + (option.address >> 32) + (option.address & 0xffff_ffff)


@inline
def of_udp(udp: Udp) -> int:
    """The sum of the header (RFC 768)."""
    return udp.src + udp.dst + udp.length + udp.checksum


@inline
def of_tcp(tcp: Tcp) -> int:
    """The sum of the fixed header (RFC 9293 section 3.1)."""
    return (tcp.src + tcp.dst + tcp.sequence + tcp.acknowledgment + (tcp.offset << 12 | tcp.reserved << 8 | tcp.flags)
            + tcp.window + tcp.checksum + tcp.urgent)

# -- verification: of parsed packets -------------------------------------------------------------------------------


@inline
def ipv4_is_right(pkt: Packet, ip: IPv4) -> bool:
    """Whether the header's checksum is right, options included; the cursor stands behind the fixed header."""
    total = of_ipv4(ip)
    for word in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9):
        if word < ip.ihl - 5:
            total = total + pkt.u32(word * 4)
    return is_right(total)

# -- filling: of pushed headers ------------------------------------------------------------------------------------


@inline
def ipv4_header(ip: IPv4) -> None:
    """Fill the checksum of a pushed header without options."""
    ip.checksum = 0
    ip.checksum = finish(of_ipv4(ip))


@inline
def icmp(pkt: Packet, header: Icmp, payload: u16) -> None:
    """Fill the checksum of a pushed header; `payload` bytes follow it, and the cursor stands before them."""
    header.checksum = 0
    header.checksum = finish(of_icmp(header) + of_bytes(pkt, payload))


@inline
def icmp6(pkt: Packet, ip: IPv6, header: Icmp6, payload: u16) -> None:
    """Fill the checksum of a pushed header; `payload` bytes follow it, and the cursor stands before them."""
    header.checksum = 0
    header.checksum = finish(pseudo_ipv6(ip.src, ip.dst, IpProtocol.ICMP6, payload + 8)
                             + of_icmp6(header) + of_bytes(pkt, payload))


@inline
def advertisement(ip: IPv6, message: NeighborAdvertisement, option: AddressOption) -> None:
    """Fill the checksum of a pushed neighbor advertisement and the option that follows it."""
    message.checksum = 0
    message.checksum = finish(pseudo_ipv6(ip.src, ip.dst, IpProtocol.ICMP6, 32)
                              + of_advertisement(message) + of_address_option(option))


@inline
def udp_ipv4(pkt: Packet, ip: IPv4, header: Udp, payload: u16) -> None:
    """Fill the checksum of a pushed header; `payload` bytes follow it, and the cursor stands before them."""
    header.checksum = 0
    header.checksum = finish_udp(pseudo_ipv4(ip.src, ip.dst, IpProtocol.UDP, payload + 8)
                                 + of_udp(header) + of_bytes(pkt, payload))


@inline
def udp_ipv6(pkt: Packet, ip: IPv6, header: Udp, payload: u16) -> None:
    """Fill the checksum of a pushed header; `payload` bytes follow it, and the cursor stands before them."""
    header.checksum = 0
    header.checksum = finish_udp(pseudo_ipv6(ip.src, ip.dst, IpProtocol.UDP, payload + 8)
                                 + of_udp(header) + of_bytes(pkt, payload))


@inline
def tcp_ipv4(pkt: Packet, ip: IPv4, header: Tcp, payload: u16) -> None:
    """Fill the checksum of a pushed header; `payload` bytes, options among them, follow it and the cursor."""
    header.checksum = 0
    header.checksum = finish(pseudo_ipv4(ip.src, ip.dst, IpProtocol.TCP, payload + 20)
                             + of_tcp(header) + of_bytes(pkt, payload))


@inline
def tcp_ipv6(pkt: Packet, ip: IPv6, header: Tcp, payload: u16) -> None:
    """Fill the checksum of a pushed header; `payload` bytes, options among them, follow it and the cursor."""
    header.checksum = 0
    header.checksum = finish(pseudo_ipv6(ip.src, ip.dst, IpProtocol.TCP, payload + 20)
                             + of_tcp(header) + of_bytes(pkt, payload))
