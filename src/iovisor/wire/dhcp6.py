"""The Dynamic Host Configuration Protocol for IPv6 (RFC 8415), its messages and options.

A message is a type, a transaction and options; one that a relay agent wrapped is a type, a count, two addresses and
options, the wrapped message among them.  Options lie in options: those of an identity association (IA) are what is
given away.  None has a fixed place, so the data path reads `Dhcp6` alone and the control path the rest.

What is malformed is refused whole, as in `dhcp`: half understood requests are how servers come to give one address
twice.  Options keep their order and may repeat where the RFC lets them; where it does not, a second one is malformed.
"""
from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from iovisor.language import Header, ipv6, u8, u24

from . import dns

SERVER_PORT, CLIENT_PORT = 547, 546     # RFC 8415 section 7.2
SERVERS_AND_RELAYS = 0xff02 << 112 | 0x1_0002               # ff02::1:2, section 7.1
ALL_SERVERS = 0xff05 << 112 | 0x1_0003                      # ff05::1:3
MOST_HOPS = 8                           # HOP_COUNT_LIMIT, section 7.6
SHORTEST, SHORTEST_RELAYED = 4, 34      # bytes before the options
LONGEST_DUID = 130                      # section 11.1
ETHERNET = 1                            # hardware type in DUIDs and in option 79


class Dhcp6Type(IntEnum):
    """RFC 8415 section 7.3."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    RECONFIGURE = 10
    INFORMATION_REQUEST = 11
    RELAY_FORWARD = 12
    RELAY_REPLY = 13


class Dhcp6Option(IntEnum):
    """RFC 8415 section 21; RFC 3646 for name servers, 4075 and 5908 for time, 6939 for a client's Ethernet address."""

    CLIENT = 1
    SERVER = 2
    IA_NA = 3
    IA_TA = 4
    ADDRESS = 5
    WISHES = 6
    PREFERENCE = 7
    ELAPSED = 8
    RELAYED = 9
    UNICAST = 12
    STATUS = 13
    RAPID_COMMIT = 14
    INTERFACE = 18
    NAME_SERVERS = 23
    SEARCH = 24
    IA_PD = 25
    PREFIX = 26
    SNTP = 31
    REFRESH = 32
    NTP = 56
    HARDWARE = 79
    SOL_MAX_RT = 82
    INF_MAX_RT = 83


class Status(IntEnum):
    """RFC 8415 section 21.13."""

    SUCCESS = 0
    UNSPECIFIED = 1
    NO_ADDRESSES = 2
    NO_BINDING = 3
    NOT_ON_LINK = 4
    USE_MULTICAST = 5
    NO_PREFIX = 6


class DuidType(IntEnum):
    """RFC 8415 section 11; RFC 6355 for UUIDs."""

    LINK_LAYER_TIME = 1
    ENTERPRISE = 2
    LINK_LAYER = 3
    UUID = 4


ONCE = frozenset({Dhcp6Option.CLIENT, Dhcp6Option.SERVER, Dhcp6Option.WISHES, Dhcp6Option.ELAPSED,
                  Dhcp6Option.RELAYED, Dhcp6Option.RAPID_COMMIT, Dhcp6Option.INTERFACE, Dhcp6Option.HARDWARE})


class Dhcp6(Header):
    """How a message between client and server begins (RFC 8415 section 8)."""

    type: u8
    id: u24


class Dhcp6Relayed(Header):
    """How a message between relay agent and server begins (RFC 8415 section 9)."""

    type: u8
    hops: u8 = 0
    link: ipv6
    peer: ipv6


Options = list[tuple[int, bytes]]


class MalformedMessage(ValueError):
    """Bytes that are no message."""

# -- options -------------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Options:
    """Options in their order.  MalformedMessage if one goes on beyond the end, or comes twice and must not."""
    found: Options = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise MalformedMessage("an option without a length")
        code, size = struct.unpack_from("!HH", data, at)
        if at + 4 + size > len(data):
            raise MalformedMessage(f"option {code} does not end within the message")
        if code in ONCE and any(code == other for other, _ in found):
            raise MalformedMessage(f"option {code} comes twice")
        found.append((code, data[at + 4:at + 4 + size]))
        at += 4 + size
    return found


def encode(options: Iterable[tuple[int, bytes]]) -> bytes:
    """Options in the order given."""
    return b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)


def first(options: Options, code: int) -> bytes | None:
    """The first option of a code."""
    return next((value for other, value in options if other == code), None)


def wishes(options: Options) -> list[int]:
    """The codes of the option request (RFC 8415 section 21.7)."""
    data = first(options, Dhcp6Option.WISHES) or b""
    if len(data) % 2:
        raise MalformedMessage("half a code in the option request")
    return [code for code, in struct.iter_unpack("!H", data)]


def status(code: Status, text: str = "") -> tuple[int, bytes]:
    """RFC 8415 section 21.13."""
    return Dhcp6Option.STATUS, code.to_bytes(2, "big") + text.encode()


def number(code: int, value: int, size: int = 4) -> tuple[int, bytes]:
    """An option that is one number."""
    return code, value.to_bytes(size, "big")


def addresses(code: int, values: Iterable[int]) -> tuple[int, bytes]:
    """An option that is a list of addresses (RFC 3646 section 3, RFC 4075)."""
    return code, b"".join(value.to_bytes(16, "big") for value in values)


def names(code: int, texts: Iterable[str]) -> tuple[int, bytes]:
    """An option that is a list of names (RFC 8415 section 10).  ValueError for what is no name."""
    return code, b"".join(dns.name_bytes(dns.parse_name(text)) for text in texts)


def time_servers(values: Iterable[int]) -> tuple[int, bytes]:
    """RFC 5908: a suboption, 1, for each address."""
    return Dhcp6Option.NTP, b"".join(struct.pack("!HH", 1, 16) + value.to_bytes(16, "big") for value in values)

# -- identity associations -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lent:
    """An address, or a prefix of a `length` below 128; times in seconds."""

    address: int
    length: int = 128
    preferred: int = 0
    valid: int = 0


@dataclass(frozen=True)
class Association:
    """An IA_NA or IA_PD (RFC 8415 sections 21.4 and 21.21)."""

    kind: int
    id: int
    lent: tuple[Lent, ...] = ()
    renewal: int = 0
    rebinding: int = 0
    status: tuple[int, bytes] | None = None

    def option(self) -> tuple[int, bytes]:
        """As an option of a message."""
        inner = [_lent(self.kind, one) for one in self.lent] + ([self.status] if self.status else [])
        return self.kind, struct.pack("!III", self.id, self.renewal, self.rebinding) + encode(inner)


def _lent(kind: int, one: Lent) -> tuple[int, bytes]:
    address = one.address.to_bytes(16, "big")
    if kind == Dhcp6Option.IA_NA:
        return Dhcp6Option.ADDRESS, address + struct.pack("!II", one.preferred, one.valid)
    return Dhcp6Option.PREFIX, struct.pack("!IIB", one.preferred, one.valid, one.length) + address


def associations(options: Options) -> list[Association]:
    """The IA_NAs and IA_PDs of a message, in their order.  MalformedMessage if one of them is no such thing, or is
    there twice."""
    found: dict[tuple[int, int], Association] = {}
    for kind, data in options:
        if kind not in (Dhcp6Option.IA_NA, Dhcp6Option.IA_PD):
            continue
        if len(data) < 12:
            raise MalformedMessage("an identity association is cut short")
        identity, renewal, rebinding = struct.unpack_from("!III", data)
        if (kind, identity) in found:
            raise MalformedMessage(f"identity association {identity} comes twice")
        inner = decode(data[12:])
        told = first(inner, Dhcp6Option.STATUS)
        found[kind, identity] = Association(kind, identity, tuple(_asked(kind, inner)), renewal, rebinding,
                                            None if told is None else (Dhcp6Option.STATUS, told))
    return list(found.values())


def _asked(kind: int, options: Options) -> Iterator[Lent]:
    for code, data in options:
        if kind == Dhcp6Option.IA_NA and code == Dhcp6Option.ADDRESS:
            if len(data) < 24:
                raise MalformedMessage("an address is cut short")
            yield Lent(int.from_bytes(data[:16], "big"), 128, *struct.unpack_from("!II", data, 16))
        elif kind == Dhcp6Option.IA_PD and code == Dhcp6Option.PREFIX:
            if len(data) < 25 or data[8] > 128:
                raise MalformedMessage("a prefix is cut short, or longer than an address")
            yield Lent(int.from_bytes(data[9:25], "big"), data[8], *struct.unpack_from("!II", data))

# -- identifiers ---------------------------------------------------------------------------------------------------


def duid_of(address: int) -> bytes:
    """The identifier that an Ethernet address gives (RFC 8415 section 11.4)."""
    return struct.pack("!HH", DuidType.LINK_LAYER, ETHERNET) + address.to_bytes(6, "big")


def hardware_of(duid: bytes) -> int:
    """The Ethernet address in an identifier; 0 if there is none (RFC 8415 sections 11.2 and 11.4)."""
    kind, hardware = int.from_bytes(duid[:2], "big"), int.from_bytes(duid[2:4], "big")
    if hardware != ETHERNET or (kind, len(duid)) not in ((DuidType.LINK_LAYER, 10), (DuidType.LINK_LAYER_TIME, 14)):
        return 0
    return int.from_bytes(duid[-6:], "big")

# -- relay agents --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrapping:
    """What one relay agent put around a message."""

    head: Dhcp6Relayed
    options: Options

    def around(self, message: bytes) -> bytes:
        """The reply that goes back through this agent (RFC 8415 section 19.3): what it must have to find its way."""
        head = Dhcp6Relayed(type=Dhcp6Type.RELAY_REPLY, hops=self.head.hops, link=self.head.link, peer=self.head.peer)
        kept = [(code, value) for code, value in self.options if code == Dhcp6Option.INTERFACE]
        return bytes(head) + encode([*kept, (Dhcp6Option.RELAYED, message)])


def unwrapped(message: bytes) -> tuple[list[Wrapping], bytes]:
    """What relay agents put around a message, from the outside, and the message.

    MalformedMessage if a wrapping has none in it, or there are more than RFC 8415 section 7.6 lets there be.
    """
    found: list[Wrapping] = []
    while message[:1] == bytes([Dhcp6Type.RELAY_FORWARD]):
        if len(message) < SHORTEST_RELAYED or message[1] > MOST_HOPS or len(found) > MOST_HOPS:
            raise MalformedMessage("a relayed message is cut short, or went through too many agents")
        options = decode(message[SHORTEST_RELAYED:])
        found.append(Wrapping(Dhcp6Relayed.decode(message[:SHORTEST_RELAYED]), options))
        inner = first(options, Dhcp6Option.RELAYED)
        if inner is None:
            raise MalformedMessage("there is no message in a relayed one")
        message = inner
    return found, message
