"""The Internet Protocol, version 4 (RFC 791), and what routers owe it (RFC 1812).

`IPv4` is the fixed part, 20 bytes.  Options follow it, and every function that wants what is behind them calls
`skip_options` right after parsing.  Its checksum covers every field, so a parsed header is rewritten, never assigned;
a pushed one is assigned, `fill` gives its fields their usual values, and `checksum.ipv4_header` ends it.

Flags and offset are separate fields rather than one word with masks: as RFC 791 draws them, and as conditions read.
The offset counts units of eight bytes.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Checksum, Header, Packet, inline, ipv4, mac, u1, u2, u4, u6, u8, u13, u16

BROADCAST = 0xffff_ffff
ALL_SYSTEMS = 0xe000_0001       # RFC 1112 section 4: 224.0.0.1
LARGEST_OPTIONS = 40


class IpProtocol(IntEnum):
    """What an IPv4 header's `proto` and an IPv6 header's `next` say (IANA's protocol numbers)."""

    HOP_BY_HOP = 0
    ICMP = 1
    IGMP = 2
    IPV4 = 4
    TCP = 6
    UDP = 17
    IPV6 = 41
    ROUTING = 43
    FRAGMENT = 44
    GRE = 47
    ESP = 50
    AUTHENTICATION = 51
    ICMP6 = 58
    NONE = 59
    DESTINATION = 60
    OSPF = 89
    PIM = 103
    VRRP = 112
    SCTP = 132
    MOBILITY = 135
    HIP = 139
    SHIM6 = 140


class IPv4(Header, checksum=Checksum("checksum", "header"), pseudo=("src", "dst"), shaping=("proto", "length", "ihl"),
           offload="ipv4"):
    """RFC 791 section 3.1; DSCP of RFC 2474 section 3, ECN of RFC 3168 section 5."""

    version: u4 = 4
    ihl: u4 = 5
    dscp: u6 = 0
    ecn: u2 = 0
    length: u16
    id: u16 = 0
    reserved: u1 = 0
    df: u1 = 0
    mf: u1 = 0
    offset: u13 = 0
    ttl: u8 = 64
    proto: u8
    checksum: u16 = 0
    src: ipv4
    dst: ipv4


@inline
def is_sane(ip: IPv4) -> bool:
    """Whether the header does not contradict itself (RFC 1812 section 5.2.2); its checksum is another question."""
    return ip.version == 4 and ip.ihl >= 5 and ip.length >= ip.ihl * 4


@inline
def skip_options(pkt: Packet, ip: IPv4) -> None:
    """Move the cursor from behind the fixed header to the payload; a header said to be shorter than that rejects."""
    pkt.skip(ip.ihl * 4 - 20)


@inline
def payload_length(ip: IPv4) -> int:
    """The bytes behind header and options, as the header says; negative if it contradicts itself."""
    return ip.length - ip.ihl * 4


@inline
def is_fragment(ip: IPv4) -> bool:
    """Whether this is a part of a datagram, the first or a later one."""
    return ip.mf == 1 or ip.offset != 0


@inline
def is_first(ip: IPv4) -> bool:
    """Whether a transport header follows: a whole datagram, or its first fragment."""
    return ip.offset == 0


@inline
def is_tiny_fragment(ip: IPv4) -> bool:
    """A fragment that may hide or overwrite TCP's flags (RFC 3128 section 2): drop it."""
    return ip.proto == IpProtocol.TCP and ip.offset == 1


@inline
def decrement_ttl(pkt: Packet, ip: IPv4) -> None:
    """One hop less, the checksum adjusted (RFC 1812 section 5.3.1); the caller has seen that `ttl` is above 1."""
    pkt.rewrite(ip, ttl=ip.ttl - 1)


@inline
def fill(ip: IPv4, src: ipv4, dst: ipv4, proto: u8, payload: u16, ttl: u8 = 64, dscp: u6 = 0, ecn: u2 = 0,
         df: u1 = 0, id: u16 = 0) -> None:
    """Give a pushed header its fields, for `payload` bytes behind it; `checksum.ipv4_header` comes after."""
    ip.version = 4
    ip.ihl = 5
    ip.dscp = dscp
    ip.ecn = ecn
    ip.length = payload + 20
    ip.id = id
    ip.reserved = 0
    ip.df = df
    ip.mf = 0
    ip.offset = 0
    ip.ttl = ttl
    ip.proto = proto
    ip.src = src
    ip.dst = dst


@inline
def is_multicast(address: ipv4) -> bool:
    """224.0.0.0/4 (RFC 1112 section 4)."""
    return address >> 28 == 0xe


@inline
def is_local_multicast(address: ipv4) -> bool:
    """224.0.0.0/24, which no router forwards (RFC 5771 section 4)."""
    return address >> 8 == 0xe00000


@inline
def is_link_local(address: ipv4) -> bool:
    """169.254.0.0/16 (RFC 3927 section 1.4)."""
    return address >> 16 == 0xa9fe


@inline
def is_loopback(address: ipv4) -> bool:
    """127.0.0.0/8, never on a wire (RFC 1122 section 3.2.1.3)."""
    return address >> 24 == 127


@inline
def is_martian_source(address: ipv4) -> bool:
    """A source no datagram can have: this network, loopback, multicast, class E (RFC 1812 section 5.3.7)."""
    return address >> 24 == 0 or address >> 24 == 127 or address >> 28 >= 0xe


@inline
def multicast_mac(group: ipv4) -> int:
    """The Ethernet address of a group: 01:00:5e and 23 bits (RFC 1112 section 6.4)."""
    return 0x0100_5e00_0000 | group & 0x7f_ffff


@inline
def is_multicast_mac(address: mac) -> bool:
    """Whether an Ethernet address is that of an IPv4 group."""
    return address >> 23 == 0x0100_5e00_0000 >> 23
