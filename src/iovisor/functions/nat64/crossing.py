"""What crosses from one family to the other: what is kept of its headers, and the headers it gets.

The translation itself, in words in which an IPv4 address is ::ffff:a.b.c.d and ICMPv6 is ICMP, is `parts.translation`;
so bindings and connections are what they are in `nat`.
"""
from __future__ import annotations

from iovisor.language import Array, Reasons, Record, auto, ipv4, ipv6, random, table, u8, u16, u32, u40, u64
from iovisor.language.ports import MOST
from iovisor.parts.allowance import Allowance
from iovisor.parts.bindings import Bindings
from iovisor.parts.embedding import Embedding
from iovisor.parts.reading import IPv6Halves
from iovisor.parts.translation import Translation
from iovisor.wire.checksum import ipv4_header
from iovisor.wire.ipv4 import IpProtocol, IPv4

from .messages import Meaning
from .settings import LEAST, MORE, Nat64Config

FRAGMENT = 8                    # bytes of the header


class Reason(Reasons):
    TAGGED = auto()
    NOT_IP = auto()
    NOT_TRANSLATABLE = auto()
    UNROUTABLE = auto()
    WRONG_SIDE = auto()
    NO_CHECKSUM = auto()
    EXPIRED = auto()
    TOO_BIG = auto()
    ERRORS_LIMITED = auto()


class Form(Embedding):
    """The prefix, and the address that errors come from, as each side sees it."""

    own: ipv4 = 0
    own6: ipv6 = 0


class Crossing(Record):
    """What the headers say that will be gone: `front` bytes before the transport, `gone` the complement of the sum of
    their addresses, `sum` of what is in memory already; and the message that an error, or the answer, will be."""

    gone: u40
    sum: u32
    rest: u32
    front: u16
    offset: u16
    piece: u16          # bytes of the transport in each packet on a wire
    speaker: u32        # who tells of an error, if that is outside
    traffic: u8
    hops: u8
    more: u8
    cut: u8             # has a fragment header, or will have one
    whole: u8           # may be cut on its way
    bare: u8            # is UDP without a checksum
    type: u8
    code: u8
    answer: u8          # the reason to answer it instead


class Quoted(Record):
    """The same of the packet that an error quotes."""

    gone: u40
    identity: u32
    length: u16
    traffic: u8
    hops: u8
    more: u8
    cut: u8


class Crossings(Translation):
    config: Nat64Config

    bindings: Bindings = Bindings(across=True)
    prefixes: Array[Form] = table(1)
    meanings: Array[Meaning] = table(512)
    pointers: Array[u8] = table(128)
    crossings: Array[Crossing] = table(1, per_cpu=True)
    quotations: Array[Quoted] = table(1, per_cpu=True)
    allowances: Array[Allowance] = table(MOST)

    def fill4(self, ip: IPv4, was: Crossing, source: ipv4, destination: ipv4, payload: u16, identity: u32,
              protocol: u8) -> None:
        """The header of RFC 7915 section 5.1."""
        ip.version, ip.ihl, ip.dscp, ip.ecn = 4, 5, was.traffic >> 2, was.traffic & 3
        ip.length = payload + 20
        if was.cut:
            ip.id, ip.offset, ip.mf = identity, was.offset, was.more
        elif was.piece + 20 > LEAST - MORE:
            ip.df = 1
        else:
            ip.id = random()
        ip.ttl, ip.proto = was.hops - 1, protocol
        ip.src, ip.dst = source, destination
        ipv4_header(ip)

    def fill6(self, ip: IPv6Halves, was: Crossing, upper: u64, lower: u64, payload: u16, protocol: u8) -> None:
        """The header of RFC 7915 section 4.1, from this address to who the packet is for."""
        way = self.ways[0]
        ip.version, ip.traffic, ip.length = 6, was.traffic << 20, payload
        ip.next = IpProtocol.ICMP6 if protocol == IpProtocol.ICMP else protocol
        ip.hops = was.hops - 1
        ip.source_upper, ip.source_lower = upper, lower
        ip.destination_upper, ip.destination_lower = way.real_upper, way.real_lower
