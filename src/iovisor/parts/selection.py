"""Which packets a rule means, for functions that mark, copy and count: nothing is refused, the first rule that matches
counts.

A rule asks for direction, prefixes, protocol, ports and DSCP; what it does not say matches everything.  The classifier
answers, so that a thousand rules cost what ten do.  Its dimension for TCP flags is used for the DSCP: no function here
asks for flags, and both are a value under a mask.

A later fragment has no ports, so no rule that asks for ports means it.
"""
from __future__ import annotations

from typing import Any

from iovisor.language import Config, ConfigError, Prefix, u6, u8, u16
from iovisor.wire.dscp import Dscp
from iovisor.wire.ipv4 import IpProtocol

from .classifier import Match
from .rules import PORTED, Direction, prefixes, spans

EVERY_DSCP = 0x3f


class SelectionConfig(Config):
    """What a packet must be; what this does not say matches everything."""

    name: str = ""
    direction: Direction = Direction.BOTH
    source: Prefix | list[Prefix] = []
    destination: Prefix | list[Prefix] = []
    protocol: IpProtocol | u8 | None = None
    source_ports: u16 | str | list[u16 | str] = []
    destination_ports: u16 | str | list[u16 | str] = []
    dscp: Dscp | u6 | None = None

    def validate(self) -> None:
        if self.source_ports != [] or self.destination_ports != []:
            where = "source_ports" if self.source_ports != [] else "destination_ports"
            if self.protocol not in PORTED:
                raise ConfigError(where, "this needs protocol tcp, udp or sctp")
        self.match()

    def match(self) -> Match:
        """As the classifier takes it."""
        directions = (Direction.OUT, Direction.IN) if self.direction == Direction.BOTH else (self.direction,)
        protocols: Any = range(256) if self.protocol is None else (self.protocol,)
        tags = frozenset(protocol | direction << 8 for protocol in protocols for direction in directions)
        return Match(prefixes("source", self.source, {}), prefixes("destination", self.destination, {}),
                     spans("source_ports", self.source_ports, {}),
                     spans("destination_ports", self.destination_ports, {}), tags,
                     self.dscp or 0, 0 if self.dscp is None else EVERY_DSCP)


__all__ = ["SelectionConfig"]
