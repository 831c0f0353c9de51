"""Neighbor discovery for IPv6 (RFC 4861): how hosts find routers, and each other's Ethernet addresses.

Each message is one header that begins with ICMPv6's own fields, so that a single parse gives the whole, and a rewrite
keeps the one checksum.  Options follow, each a type and a length in units of eight bytes; `link_layer_address` walks
them, at most `MOST_OPTIONS`.

A message is valid only if its hop limit is 255, so that no router has passed it (section 3.1), and its code is zero:
`is_valid`.
"""
from __future__ import annotations

from enum import IntEnum

from iovisor.language import Checksum, Header, Packet, inline, ipv6, mac, require, u1, u2, u5, u6, u8, u16, u24, u32

from .icmp6 import Icmp6, Icmp6Type
from .ipv6 import IPv6

MOST_OPTIONS = 6
ON_LINK = 255           # the hop limit of a message that no router forwarded


class OptionType(IntEnum):
    """RFC 4861 section 4.6; RFC 8106 for name servers, and where names are looked for."""

    SOURCE_ADDRESS = 1
    TARGET_ADDRESS = 2
    PREFIX = 3
    REDIRECTED = 4
    MTU = 5
    NAME_SERVERS = 25
    SEARCH = 31


class Preference(IntEnum):
    """Which router hosts take rather than another (RFC 4191 section 2.1)."""

    MEDIUM = 0
    HIGH = 1
    LOW = 3


class RouterSolicitation(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """RFC 4861 section 4.1."""

    type: u8 = Icmp6Type.ROUTER_SOLICITATION
    code: u8 = 0
    checksum: u16 = 0
    reserved: u32 = 0


class RouterAdvertisement(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """RFC 4861 section 4.2; `preference` of RFC 4191 section 2.2.  `lifetime` in seconds, the others milliseconds."""

    type: u8 = Icmp6Type.ROUTER_ADVERTISEMENT
    code: u8 = 0
    checksum: u16 = 0
    hops: u8 = 64
    managed: u1 = 0
    other: u1 = 0
    home_agent: u1 = 0
    preference: u2 = 0
    proxy: u1 = 0
    reserved: u2 = 0
    lifetime: u16
    reachable: u32 = 0
    retransmit: u32 = 0


class NeighborSolicitation(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """RFC 4861 section 4.3."""

    type: u8 = Icmp6Type.NEIGHBOR_SOLICITATION
    code: u8 = 0
    checksum: u16 = 0
    reserved: u32 = 0
    target: ipv6


class NeighborAdvertisement(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """RFC 4861 section 4.4."""

    type: u8 = Icmp6Type.NEIGHBOR_ADVERTISEMENT
    code: u8 = 0
    checksum: u16 = 0
    router: u1 = 0
    solicited: u1 = 0
    override: u1 = 0
    spare: u5 = 0
    reserved: u24 = 0
    target: ipv6


class Redirect(Header, checksum=Checksum("checksum", "transport", pseudo=True)):
    """RFC 4861 section 4.5: for `destination`, `target` is a better first hop."""

    type: u8 = Icmp6Type.REDIRECT
    code: u8 = 0
    checksum: u16 = 0
    reserved: u32 = 0
    target: ipv6
    destination: ipv6


class Option(Header):
    """How every option begins (RFC 4861 section 4.6); `length` counts units of 8 bytes, this header included."""

    type: u8
    length: u8


class AddressOption(Header):
    """The link-layer address of the source or the target (RFC 4861 section 4.6.1), for Ethernet."""

    type: u8
    length: u8 = 1
    address: mac


class PrefixOption(Header):
    """A prefix of the link (RFC 4861 section 4.6.2); lifetimes in seconds."""

    type: u8 = OptionType.PREFIX
    length: u8 = 4
    prefix_length: u8
    on_link: u1 = 0
    autonomous: u1 = 0
    spare: u6 = 0
    valid: u32
    preferred: u32
    reserved: u32 = 0
    prefix: ipv6


class MtuOption(Header):
    """The MTU of the link (RFC 4861 section 4.6.4)."""

    type: u8 = OptionType.MTU
    length: u8 = 1
    reserved: u16 = 0
    mtu: u32


class NameServerOption(Header):
    """One recursive name server (RFC 8106 section 5.1); more addresses make the option longer."""

    type: u8 = OptionType.NAME_SERVERS
    length: u8 = 3
    reserved: u16 = 0
    lifetime: u32
    server: ipv6


class SearchOption(Header):
    """Where hosts look for names (RFC 8106 section 5.2); the names follow, filled up to a whole `length`."""

    type: u8 = OptionType.SEARCH
    length: u8
    reserved: u16 = 0
    lifetime: u32


@inline
def is_valid(ip: IPv6, icmp: Icmp6) -> bool:
    """What RFC 4861 sections 6.1 and 7.1 ask of every message, but for its checksum and options."""
    return ip.hops == ON_LINK and icmp.code == 0


@inline
def link_layer_address(pkt: Packet, wanted: u8) -> int:
    """The Ethernet address in the first option of type `wanted`, zero if there is none; the cursor is at the options.

    An option of length zero rejects the packet (RFC 4861 section 4.6).
    """
    for _ in range(MOST_OPTIONS):
        option = pkt.peek(AddressOption)
        if option is None:
            break
        if option.type == wanted and option.length == 1:
            return option.address
        require(option.length != 0)
        pkt.skip(option.length * 8)
    return 0
