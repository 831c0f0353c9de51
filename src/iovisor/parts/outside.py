"""Outside addresses and static bindings, as people write them and as the tables of `bindings` have them."""
from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from iovisor.language import SECOND, Config, ConfigError, Prefix, Record, time, u8, u16, u32, u64
from iovisor.wire.ipv4 import IpProtocol

from .reading import MAPPED

WORDS, POOLS = 1_024, 3         # words of `used` for one address and pool; queries, TCP, UDP
CLASS = 1_024                   # ports below are a class of their own
MASK64 = (1 << 64) - 1
MOST_BITS = 16                  # of a prefix: its addresses are taken one by one


class Filtering(IntEnum):
    """Who may send to a binding (RFC 4787 section 5)."""

    ENDPOINT_INDEPENDENT = 0    # everybody
    ADDRESS_DEPENDENT = 1       # addresses it was used to send to
    PORT_DEPENDENT = 2          # addresses and ports


class Endpoint(Record):
    """An address in words, a port or an identifier of queries, and the protocol."""

    upper: u64
    lower: u64
    port: u16 = 0
    protocol: u8 = 0


class Address(Record):
    upper: u64
    lower: u64


class Fixed(NamedTuple):
    """A static binding as the tables have it."""

    outside: Address
    outer: Endpoint
    inner: Endpoint


class StaticConfig(Config):
    """One static binding: a port, a range of ports, or a whole address or prefix."""

    name: str = ""
    outside: Prefix
    inside: Prefix
    protocol: IpProtocol | None = None
    outside_ports: u16 | str = 0
    inside_ports: u16 | str = 0

    def validate(self) -> None:
        self.pair()
        if self.outside.bits - self.outside.length > MOST_BITS:
            raise ConfigError("outside", f"{self.outside} has more addresses than can be used")
        if self.protocol is None:
            if self.outside_ports != 0 or self.inside_ports != 0:
                raise ConfigError("protocol", "ports need a protocol: tcp or udp")
            return
        if self.protocol not in (IpProtocol.TCP, IpProtocol.UDP):
            raise ConfigError("protocol", f"{self.protocol.name.lower()} has no ports: it goes with a whole address")
        if self.outside.length != self.outside.bits:
            raise ConfigError("outside", f"{self.outside} is not one address, which is what ports belong to")
        outside, inside = ports("outside_ports", self.outside_ports), ports("inside_ports", self.inside_ports)
        if inside != (0, 0) and inside[1] - inside[0] not in (0, outside[1] - outside[0]):
            raise ConfigError("inside_ports", f"{self.inside_ports!r} has not as many ports as {self.outside_ports!r}")
        if outside[0] == 0:
            raise ConfigError("outside_ports", "this needs a port or a range")

    def pair(self) -> None:
        """Whether inside and outside may be bound to each other."""
        if self.outside.bits != self.inside.bits or self.outside.length != self.inside.length:
            raise ConfigError("inside", f"{self.inside} is not of the size and family of {self.outside}")

    def entries(self) -> list[Fixed]:
        count = 1 << self.outside.bits - self.outside.length
        whole = [(words(self.outside, n), words(self.inside, n)) for n in range(count)]
        if self.protocol is None:
            return [fixed(outside, 0, inside, 0, 0) for outside, inside in whole]
        first, last = ports("outside_ports", self.outside_ports)
        start = ports("inside_ports", self.inside_ports)[0] or first
        return [fixed(whole[0][0], first + n, whole[0][1], start + n, self.protocol) for n in range(last - first + 1)]


class BindingsConfig(Config):
    """Which addresses are shown, and how."""

    addresses: list[Prefix] = []
    static: list[StaticConfig] = []
    filtering: Filtering = Filtering.ADDRESS_DEPENDENT
    per_subscriber: u32 = 0
    first_port: u16 = 1_024
    last_port: u16 = 65_535
    hold: time = 120 * SECOND
    bindings: u32 = 65_536
    strangers: u32 = 16_384
    subscribers: u32 = 4_096
    most_addresses: u16 = 16

    def validate(self) -> None:
        super().validate()
        if not CLASS <= self.first_port <= self.last_port:
            raise ConfigError("first_port", f"{self.first_port} to {self.last_port} is no range from {CLASS} up")
        for place, prefix in enumerate(self.addresses):
            if prefix.bits - prefix.length > MOST_BITS:
                raise ConfigError(f"addresses[{place}]", f"{prefix} has more addresses than can be used")
        count = len({bytes(address) for address in [*self.pool(), *(entry.outside for entry in self.entries())]})
        if count > self.most_addresses:
            raise ConfigError("addresses", f"{count} outside addresses; there is room for {self.most_addresses} "
                                           "(most_addresses)")
        seen: dict[bytes, int] = {}
        for place, static in enumerate(self.static):
            for entry in static.entries():
                if (other := seen.setdefault(bytes(entry.outer), place)) != place:
                    raise ConfigError(f"static[{place}]", f"{static.outside} with these ports is in "
                                                            f"static[{other}] too")

    def pool(self) -> list[Address]:
        """The addresses for dynamic bindings, each once."""
        every = [words(prefix, n) for prefix in self.addresses for n in range(1 << prefix.bits - prefix.length)]
        return list({bytes(address): address for address in every}.values())

    def entries(self) -> list[Fixed]:
        return [entry for static in self.static for entry in static.entries()]

    @property
    def slots(self) -> int:
        return 1 + self.most_addresses

    @property
    def words(self) -> int:
        return (1 + self.most_addresses) * POOLS * WORDS

    @property
    def choices(self) -> int:
        return 2 * self.most_addresses


def fixed(outside: Address, port: int, inside: Address, inner: int, protocol: int) -> Fixed:
    return Fixed(outside, Endpoint(upper=outside.upper, lower=outside.lower, port=port, protocol=protocol),
                 Endpoint(upper=inside.upper, lower=inside.lower, port=inner, protocol=protocol))


def words(prefix: Prefix, number: int) -> Address:
    """An address of a prefix, as two words."""
    address = prefix.address + number
    if prefix.bits == 32:
        return Address(upper=0, lower=MAPPED | address)
    return Address(upper=address >> 64, lower=address & MASK64)


def is_six(address: Any) -> bool:
    """Whether the words are those of an IPv6 address."""
    return bool(address.upper != 0 or address.lower >> 32 != 0xffff)


def ports(where: str, value: int | str) -> tuple[int, int]:
    """A port or a range, the first and the last; (0, 0) for none."""
    if isinstance(value, int):
        return value, value
    first, dash, last = value.partition("-")
    if not (first.isdecimal() and (last.isdecimal() if dash else True)):
        raise ConfigError(where, f"{value!r} is neither a port nor a range of ports, such as 8000-8010")
    low, high = int(first), int(last or first)
    if not 0 < low <= high < 1 << 16:
        raise ConfigError(where, f"{value!r} is not a range of ports")
    return low, high
