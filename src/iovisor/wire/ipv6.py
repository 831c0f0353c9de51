"""The Internet Protocol, version 6 (RFC 8200), and its addresses (RFC 4291).

`IPv6` is the fixed header, 40 bytes.  What IPv4 keeps in options and flags stands here in extension headers, a chain of
unknown length: `skip_extensions` walks it, at most `MOST_EXTENSIONS` long, and answers what a data path needs: the
transport and the place in its fragment train.  A longer chain is left with the number of an extension as its protocol,
which is no transport's, so that whoever looks for a transport finds none; walking on without a bound was rejected with
the languages that allow it (and RFC 8883 counts such a limit among the reasons a packet may be dropped for).

There is no checksum here; `src` and `dst` lie under that of the transport, and are rewritten, not assigned.
"""
from __future__ import annotations

from iovisor.language import Header, Packet, inline, ipv6, mac, u1, u2, u4, u6, u8, u13, u16, u20, u32

from .ipv4 import IpProtocol

MOST_EXTENSIONS = 6
ALL_NODES = 0xff02 << 112 | 1                           # RFC 4291 section 2.7.1: ff02::1
ALL_ROUTERS = 0xff02 << 112 | 2                         # ff02::2
SOLICITED_NODE = 0xff02 << 112 | 0x1_ff00_0000          # ff02::1:ff00:0/104
LINK_LOCAL = 0xfe80 << 112                              # RFC 4291 section 2.5.6: fe80::/64


class IPv6(Header, pseudo=("src", "dst"), shaping=("next", "length"), offload="ipv6"):
    """RFC 8200 section 3; DSCP of RFC 2474 section 3, ECN of RFC 3168 section 5."""

    version: u4 = 6
    dscp: u6 = 0
    ecn: u2 = 0
    flow: u20 = 0
    length: u16
    next: u8
    hops: u8 = 64
    src: ipv6
    dst: ipv6


class Extension(Header):
    """How hop-by-hop, routing and destination options begin (RFC 6564 section 4); `length` in units of 8 bytes."""

    next: u8
    length: u8 = 0


class Fragment(Header):
    """RFC 8200 section 4.5; `offset` in units of 8 bytes."""

    next: u8
    reserved: u8 = 0
    offset: u13
    spare: u2 = 0
    more: u1
    id: u32


@inline
def is_sane(ip: IPv6) -> bool:
    """Whether the header does not contradict itself: its version, and a source that is no group (RFC 4291 2.7)."""
    return ip.version == 6 and ip.src >> 120 != 0xff


@inline
def skip_extensions(pkt: Packet, ip: IPv6) -> tuple[int, int, int]:
    """Walk the extension headers; the cursor goes from behind the fixed header to what they end before.

    Answers the protocol found, and the fragment's `offset` and `more`: both zero for a whole packet, and an offset
    above zero says that no transport header is here, only a later part of the payload.
    """
    proto = ip.next
    offset = 0
    more = 0
    for _ in range(MOST_EXTENSIONS):
        if proto in (IpProtocol.HOP_BY_HOP, IpProtocol.ROUTING, IpProtocol.DESTINATION,
                     IpProtocol.MOBILITY, IpProtocol.HIP, IpProtocol.SHIM6):
            extension = pkt.parse(Extension)
            proto = extension.next
            pkt.skip(extension.length * 8 + 6)
        elif proto == IpProtocol.AUTHENTICATION:
            # RFC 4302 section 2.2 counts in units of 4 bytes, and two of them less than there are.
            extension = pkt.parse(Extension)
            proto = extension.next
            pkt.skip(extension.length * 4 + 6)
        elif proto == IpProtocol.FRAGMENT:
            fragment = pkt.parse(Fragment)
            proto = fragment.next
            offset = fragment.offset
            more = fragment.more
            if offset != 0:
                break
        else:
            break
    return proto, offset, more


@inline
def is_extension(proto: u8) -> bool:
    """Whether a protocol number is an extension header's: what `skip_extensions` answers for too long a chain."""
    return proto in (IpProtocol.HOP_BY_HOP, IpProtocol.ROUTING, IpProtocol.FRAGMENT, IpProtocol.AUTHENTICATION,
                     IpProtocol.DESTINATION, IpProtocol.MOBILITY, IpProtocol.HIP, IpProtocol.SHIM6)


@inline
def fill(ip: IPv6, src: ipv6, dst: ipv6, next: u8, payload: u16, hops: u8 = 64, dscp: u6 = 0, ecn: u2 = 0,
         flow: u20 = 0) -> None:
    """Give a pushed header its fields, for `payload` bytes behind it."""
    ip.version = 6
    ip.dscp = dscp
    ip.ecn = ecn
    ip.flow = flow
    ip.length = payload
    ip.next = next
    ip.hops = hops
    ip.src = src
    ip.dst = dst


@inline
def is_multicast(address: ipv6) -> bool:
    """ff00::/8 (RFC 4291 section 2.7)."""
    return address >> 120 == 0xff


@inline
def scope_of(group: ipv6) -> int:
    """The four bits that say how far a group reaches: 1 interface, 2 link, 5 site, 14 global (RFC 4291 section 2.7)."""
    return group >> 112 & 0xf


@inline
def is_link_local(address: ipv6) -> bool:
    """fe80::/10 (RFC 4291 section 2.5.6)."""
    return address >> 118 == 0x3fa


@inline
def is_martian_source(address: ipv6) -> bool:
    """A source no routed packet can have: unspecified, loopback, multicast (RFC 4291 section 2.5)."""
    return address == 0 or address == 1 or address >> 120 == 0xff


@inline
def solicited_node(address: ipv6) -> int:
    """The group in which the owner of an address is asked for (RFC 4291 section 2.7.1)."""
    return SOLICITED_NODE | address & 0xff_ffff


@inline
def multicast_mac(group: ipv6) -> int:
    """The Ethernet address of a group: 33:33 and 32 bits (RFC 2464 section 7)."""
    return 0x3333_0000_0000 | group & 0xffff_ffff


@inline
def interface_identifier(address: mac) -> int:
    """The 64 bits an Ethernet address gives (RFC 4291 appendix A): ff:fe in the middle, the local bit turned."""
    return (address >> 24 << 40 | 0xfffe << 24 | address & 0xff_ffff) ^ 0x0200_0000_0000_0000


@inline
def link_local(address: mac) -> int:
    """The link-local address an Ethernet address gives (RFC 4862 section 5.3)."""
    return LINK_LOCAL | interface_identifier(address)
