"""Rules as people write them, and as the classifier takes them.

A rule says what it asks for in prefixes, ports and names; what it does not say matches everything.  Names of address
and port sets are looked up in the configuration that holds the rule, so a set is written once.
"""
from __future__ import annotations

from enum import IntEnum
from typing import Any

from iovisor.language import Config, ConfigError, Prefix, u8, u16
from iovisor.wire.icmp import IcmpType
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv4 import IpProtocol
from iovisor.wire.tcp import TcpFlag

from .classifier import Match
from .reading import MAPPED, V4

PORTED = (IpProtocol.TCP, IpProtocol.UDP, IpProtocol.SCTP)
MESSAGES: dict[int, type[IntEnum]] = {IpProtocol.ICMP: IcmpType, IpProtocol.ICMP6: Icmp6Type}


class Action(IntEnum):
    DROP = 0
    ACCEPT = 1
    REJECT = 2


class Direction(IntEnum):
    OUT = 0
    IN = 1
    BOTH = 2


class Track(IntEnum):
    NEW = 0
    RELATED = 1


class RuleConfig(Config):
    """One rule; what it does not say matches everything."""

    name: str = ""
    action: Action
    priority: u16 = 0
    direction: Direction = Direction.BOTH
    state: Track = Track.NEW
    source: Prefix | str | list[Prefix | str] = []
    destination: Prefix | str | list[Prefix | str] = []
    protocol: IpProtocol | u8 | None = None
    source_ports: u16 | str | list[u16 | str] = []
    destination_ports: u16 | str | list[u16 | str] = []
    icmp_type: u8 | str | None = None
    icmp_code: u8 | None = None
    flags: str | None = None
    log: bool = False

    def validate(self) -> None:
        if self.source_ports != [] or self.destination_ports != []:
            where = "source_ports" if self.source_ports != [] else "destination_ports"
            self.needs(where, self.protocol in PORTED, "protocol tcp, udp or sctp")
        if self.icmp_type is not None:
            self.needs("icmp_type", self.protocol in MESSAGES, "protocol icmp or icmp6")
        if self.icmp_code is not None:
            self.needs("icmp_code", self.icmp_type is not None, "an icmp_type")
        if self.flags is not None:
            self.needs("flags", self.protocol == IpProtocol.TCP, "protocol tcp")
        flags_and_mask(self.flags or "")

    def needs(self, field: str, there: bool, what: str) -> None:
        if not there:
            raise ConfigError(field, f"this needs {what}")

    def match(self, path: str, addresses: dict[str, list[Prefix]], ports: dict[str, list[u16 | str]]) -> Match:
        """As the classifier takes it; names of sets are looked up."""
        flags, mask = flags_and_mask(self.flags or "")
        firsts, seconds = spans(f"{path}.source_ports", self.source_ports, ports), \
            spans(f"{path}.destination_ports", self.destination_ports, ports)
        if self.icmp_type is not None:
            number = message(MESSAGES[self.protocol or 0], self.icmp_type)
            firsts = ((number, number),)
        if self.icmp_code is not None:
            seconds = ((self.icmp_code, self.icmp_code),)
        directions = (0, 1) if self.direction == Direction.BOTH else (self.direction,)
        protocols = range(256) if self.protocol is None else (self.protocol,)
        tags = frozenset(tag(protocol, direction, self.state) for protocol in protocols for direction in directions)
        return Match(prefixes(f"{path}.source", self.source, addresses),
                     prefixes(f"{path}.destination", self.destination, addresses), firsts, seconds, tags, flags, mask)


def tag(protocol: int, direction: int, state: int) -> int:
    return protocol | direction << 8 | state << 9


def prefixes(path: str, wanted: Any, sets: dict[str, list[Prefix]]) -> tuple[Prefix, ...]:
    """Prefixes of 128 bits, those of IPv4 within ::ffff:0:0/96."""
    found: list[Prefix] = []
    for item in wanted if isinstance(wanted, list) else [wanted]:
        if isinstance(item, str) and item not in sets:
            raise ConfigError(path, f"{item!r} is neither a prefix nor the name of an address set")
        found += sets[item] if isinstance(item, str) else [item]
    return tuple(Prefix(MAPPED | p.address, V4 + p.length, 128) if p.bits == 32 else p for p in found)


def spans(path: str, wanted: Any, sets: dict[str, list[u16 | str]]) -> tuple[tuple[int, int], ...]:
    """`443`, `"1024-65535"`, the name of a set, or a list of these."""
    found: list[tuple[int, int]] = []
    for item in wanted if isinstance(wanted, list) else [wanted]:
        if isinstance(item, str) and item in sets:
            found += spans(path, sets[item], {})
            continue
        first, _, last = str(item).partition("-")
        try:
            low, high = int(first), int(last or first)
        except ValueError:
            raise ConfigError(path, f"{item!r} is neither a port, a range like 1024-65535 nor the name of a port set"
                              ) from None
        if not 0 <= low <= high <= 0xffff:
            raise ConfigError(path, f"{item!r} is not a range of ports, which end at 65535")
        found.append((low, high))
    return tuple(found)


def message(kinds: type[IntEnum], name: int | str) -> int:
    if isinstance(name, int):
        return name
    if name.upper() not in kinds.__members__:
        known = ", ".join(kinds.__members__).lower()
        raise ConfigError("icmp_type", f"{name!r} is not a message; a number is, or one of {known}")
    return int(kinds[name.upper()])


def flags_and_mask(text: str) -> tuple[int, int]:
    """`"syn !ack"`."""
    flags = mask = 0
    for word in text.replace(",", " ").split():
        name = word.removeprefix("!").upper()
        if name not in TcpFlag.__members__:
            raise ConfigError("flags", f"{word!r} is not one of {', '.join(TcpFlag.__members__).lower()}, or ! and one")
        mask |= TcpFlag[name]
        flags |= 0 if word.startswith("!") else TcpFlag[name]
    return flags, mask
